package main

import (
	"fmt"
	"sort"
	"strings"
	"syscall/js"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// version is what peers are told; the build sets it.
var version = "tab"

// console is a log core that writes to the browser's console. It knows no
// encoder: JSON on a console serves nobody.
type console struct {
	least  zapcore.Level
	fields []zapcore.Field
}

// logger writes warnings and worse, or all when the page set edgenetDebug.
func logger() *zap.Logger {
	least := zapcore.WarnLevel
	if js.Global().Get("edgenetDebug").Truthy() {
		least = zapcore.DebugLevel
	}
	return zap.New(console{least: least})
}

func (c console) Enabled(l zapcore.Level) bool { return l >= c.least }

func (c console) With(fields []zapcore.Field) zapcore.Core {
	return console{c.least, append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

func (c console) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c console) Write(e zapcore.Entry, fields []zapcore.Field) error {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		f.AddTo(m)
	}
	names := make([]string, 0, len(m.Fields))
	for name := range m.Fields {
		names = append(names, name)
	}
	sort.Strings(names)
	var b strings.Builder
	b.WriteString(e.Message)
	for _, name := range names {
		fmt.Fprintf(&b, " %s=%v", name, m.Fields[name])
	}
	method := "debug"
	switch {
	case e.Level >= zapcore.ErrorLevel:
		method = "error"
	case e.Level >= zapcore.WarnLevel:
		method = "warn"
	}
	js.Global().Get("console").Call(method, b.String())
	return nil
}

func (console) Sync() error { return nil }
