package zap

// The handler of levels over HTTP is left out: a tab serves nothing.
