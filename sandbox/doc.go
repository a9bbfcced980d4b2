// Package sandbox runs WebAssembly tasks from strangers: the same bytes, input,
// seed and limits give the same output, status and fuel on every engine, so
// that replicas can vote and fuel can be a price.
//
// Prepare checks and meters a module; an Executor runs it. NewPool runs tasks
// in child processes that can be killed and is what a daemon uses; NewInProcess
// runs them in the calling process in short slices, for embedders without a
// child binary.
package sandbox
