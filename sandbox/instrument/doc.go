// Package instrument reads a WebAssembly module strictly, bounds it, and writes
// it back with metering: fuel per basic block, a depth meter, canonical NaNs
// and a memory cap that the host sets per task.
//
// Everything is decoded and encoded again, so engines see one canonical
// spelling: minimal LEB128, no custom sections, no unreachable code. The whole
// module is type-checked here, against its own index spaces, before anything
// is added to them.
package instrument
