package sandbox

// Spare is how many runs an executor takes beyond its slots while as many guests
// are halted; in a tab no guest can be.
func Spare(Executor) int { return 0 }
