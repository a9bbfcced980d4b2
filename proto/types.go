package proto

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Credit is an amount of money in microcredits. One credit is 60 s of
// reference CPU.
type Credit uint64

// Microcredits in one credit.
const OneCredit Credit = 1_000_000

// String formats c in credits with up to six decimals: "12.5".
func (c Credit) String() string {
	s := fmt.Sprintf("%d.%06d", uint64(c/OneCredit), uint64(c%OneCredit))
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// ParseCredit reads a decimal number of credits with at most six decimals.
func ParseCredit(s string) (Credit, error) {
	whole, frac, _ := strings.Cut(s, ".")
	if len(frac) > 6 || whole == "" {
		return 0, fmt.Errorf("amount %q: want credits with at most six decimals, such as 12.5", s)
	}
	n, err := strconv.ParseUint(whole+frac+strings.Repeat("0", 6-len(frac)), 10, 64)
	if err != nil || n > 1<<53 {
		return 0, fmt.Errorf("amount %q: want credits between 0 and 9007199254, such as 12.5", s)
	}
	return Credit(n), nil
}

// Fuel counts metered instructions of a task. Equal module bytes, input and
// meter version give equal fuel on every engine.
type Fuel uint64

// Units of the price: a price is microcredits per PriceUnit fuel.
const (
	PriceUnit       Fuel = 60_000_000_000 // 60 Gfuel = 60 s of reference CPU
	DefaultFuel     Fuel = 30_000_000_000
	MaxFuel         Fuel = 1 << 52
	DefaultMemory        = 256 << 20
	MaxInline            = 256 << 10 // payloads above travel by CID
	MaxOutput            = 4 << 20
	MaxLog               = 64 << 10
	MaxLostOutput        = 64 << 10 // of an execution that gave no result
	MaxModule            = 4 << 20
	MaxInput             = 16 << 20
	MaxRedundancy        = 7
	MaxTasks             = 10_000
	MaxLabel             = 64 // bytes of a job's label, of an operator and of a site
	DefaultWall          = 30 * time.Second
	DefaultMaxRun        = time.Hour      // of a network whose genesis names no cap
	MaxRun               = 24 * time.Hour // highest cap of a genesis
	MaxStretch           = 10             // see Stretch
	ReferenceRate   Fuel = 1_000_000_000  // fuel that the reference CPU does in a second
	LeaseDuration        = 5 * time.Minute
	ClockSlack           = 15 * time.Minute // that clocks of honest nodes may be apart
	MeterVersion         = 2                // of fuel weights and instrumented bytes, frozen by tests in sandbox
	MaxPriceCredits      = Credit(1_000_000) * OneCredit
)

// PayFor is what fuel is worth at price: max(1, floor(fuel*price/PriceUnit)).
func PayFor(fuel Fuel, price Credit) Credit {
	hi, lo := bits.Mul64(uint64(fuel), uint64(price))
	if hi >= uint64(PriceUnit) {
		return Credit(1<<63 - 1)
	}
	q, _ := bits.Div64(hi, lo, uint64(PriceUnit))
	return max(1, Credit(q))
}

// Fee is burned on top of a settled amount: ceil(amount*ppm/10^6).
func Fee(amount Credit, ppm uint64) Credit {
	hi, lo := bits.Mul64(uint64(amount), ppm)
	lo, carry := bits.Add64(lo, 999_999, 0)
	hi += carry
	if hi >= 1_000_000 {
		return Credit(1<<63 - 1)
	}
	q, _ := bits.Div64(hi, lo, 1_000_000)
	return Credit(q)
}

// Limits bound one task. Zero fields take the defaults above.
type Limits struct {
	Fuel   Fuel
	Memory uint64        // bytes of linear memory
	Output uint64        // bytes
	Log    uint64        // bytes
	Wall   time.Duration // backstop; never votes
}

// WithDefaults fills zero fields.
func (l Limits) WithDefaults() Limits {
	if l.Fuel == 0 {
		l.Fuel = DefaultFuel
	}
	if l.Memory == 0 {
		l.Memory = DefaultMemory
	}
	if l.Output == 0 {
		l.Output = MaxOutput
	}
	if l.Log == 0 {
		l.Log = MaxLog
	}
	if l.Wall == 0 {
		l.Wall = DefaultWall
	}
	return l
}

// DefaultRun is the wall clock limit of a try when its submitter names none:
// DefaultWall, or what fuel takes the reference CPU when that is more, within
// the network's cap.
func DefaultRun(fuel Fuel, limit time.Duration) time.Duration {
	need := time.Duration((min(fuel, MaxFuel)+ReferenceRate-1)/ReferenceRate) * time.Second
	return min(max(DefaultWall, need), limit)
}

// Stretch is how long work that takes d of a whole core takes with a share of
// percent, at most MaxStretch times d: nobody waits longer for a worker that
// throttles itself.
func Stretch(d time.Duration, percent int) time.Duration {
	if percent <= 0 || percent >= 100 {
		return d
	}
	return d * 100 / time.Duration(max(percent, 100/MaxStretch))
}

// Status is how an execution ended. Values are append-only wire numbers.
type Status uint32

// Votable statuses come from the module and its input alone, so replicas can
// agree on them; local ones come from the machine and never vote.
const (
	StatusUnknown Status = iota
	StatusOK
	StatusTrap
	StatusOutOfFuel
	StatusStackLimit
	StatusExitNonZero
	StatusBadOutput
)

const (
	StatusTimeout Status = iota + 100
	StatusCompileTimeout
	StatusKilled
	StatusHostOOM
	StatusCancelled
)

// Votable reports whether replicas can agree on s.
func (s Status) Votable() bool { return s >= StatusOK && s <= StatusBadOutput }

func (s Status) String() string {
	switch s {
	case StatusOK:
		return "ok"
	case StatusTrap:
		return "trap"
	case StatusOutOfFuel:
		return "out-of-fuel"
	case StatusStackLimit:
		return "stack-limit"
	case StatusExitNonZero:
		return "exit-non-zero"
	case StatusBadOutput:
		return "bad-output"
	case StatusTimeout:
		return "timeout"
	case StatusCompileTimeout:
		return "compile-timeout"
	case StatusKilled:
		return "killed"
	case StatusHostOOM:
		return "host-oom"
	case StatusCancelled:
		return "cancelled"
	}
	return "unknown"
}

// What work of low and high priority pays of the price at normal priority, in
// percent, where the genesis names nothing else.
const (
	DefaultLowPercent  uint64 = 50
	DefaultHighPercent uint64 = 200
	MaxPercent         uint64 = 10_000
)

// Priority of a job.
type Priority uint32

// Priorities; the zero value of a submission is normal, not low.
const (
	PriorityLow Priority = iota
	PriorityNormal
	PriorityHigh
)

func (p Priority) String() string {
	switch p {
	case PriorityLow:
		return "low"
	case PriorityHigh:
		return "high"
	}
	return "normal"
}

// ParsePriority reads low, normal or high; empty is normal.
func ParsePriority(s string) (Priority, error) {
	switch s {
	case "low":
		return PriorityLow, nil
	case "", "normal":
		return PriorityNormal, nil
	case "high":
		return PriorityHigh, nil
	}
	return 0, fmt.Errorf("priority %q: want low, normal or high", s)
}

// Task types that ship with the node. Aliases are accepted by CanonicalType.
const (
	TypeText         = "text"
	TypeVectors      = "vectors"
	TypeVectorSearch = "vector_search"
)

// CanonicalType resolves the accepted aliases of a task type name.
func CanonicalType(s string) string {
	switch s {
	case "vector":
		return TypeVectors
	case "embeddings":
		return "embedding"
	}
	return s
}
