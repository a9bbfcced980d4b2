//go:build !js

package jsengine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// message is a frame's head. The frame's layout stands in engine-host.ts.
type message struct {
	Op    string `json:"op"`
	ID    uint64 `json:"id"`
	Sizes []int  `json:"sizes"`

	Run *runOrder `json:"run,omitempty"`

	Engine   string          `json:"engine,omitempty"`
	Status   json.RawMessage `json:"status,omitempty"` // of a run; in hello the table of all
	ExitCode int32           `json:"exitCode,omitempty"`
	Fuel     proto.Fuel      `json:"fuel,omitempty"`
	Permille uint32          `json:"permille,omitempty"`
	Message  string          `json:"message,omitempty"`

	parts [][]byte
}

// runOrder is a run without its bytes, as the Worker's protocol spells it.
type runOrder struct {
	Module    string      `json:"moduleId"`
	ABI       sandbox.ABI `json:"abi"`
	StartFuel proto.Fuel  `json:"startFuel"`
	MinPages  uint32      `json:"minPages"`
	Limits    runLimits   `json:"limits"`
	CPU       int         `json:"cpu,omitempty"`
	Slice     int         `json:"slice,omitempty"`
}

type runLimits struct {
	Fuel   proto.Fuel `json:"fuel"`
	Memory uint64     `json:"memory"`
	Output uint64     `json:"output"`
	Log    uint64     `json:"log"`
	Wall   int64      `json:"wall"` // milliseconds
}

func (m message) statusCode() (s proto.Status) {
	if json.Unmarshal(m.Status, &s) != nil {
		return proto.StatusUnknown
	}
	return s
}

func (m message) statusTable() (t map[string]proto.Status, err error) {
	return t, json.Unmarshal(m.Status, &t)
}

// maxFrame bounds what the other side sends: output, log and a head.
const maxFrame = proto.MaxOutput + proto.MaxLog + 64<<10

func encode(m message, parts ...[]byte) ([]byte, error) {
	m.Sizes = make([]int, len(parts))
	for i, p := range parts {
		m.Sizes[i] = len(p)
	}
	head, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 8, 8+len(head))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(head)))
	b = append(b, head...)
	for _, p := range parts {
		b = append(b, p...)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	return b, nil
}

var errFrame = errors.New("jsengine: malformed frame")

// decode reads one frame; io.EOF is the end between two.
func decode(r io.Reader) (m message, err error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return m, err
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n < 4 || n > maxFrame {
		return m, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return m, err
	}
	size := binary.LittleEndian.Uint32(b)
	if b = b[4:]; uint64(size) > uint64(len(b)) {
		return m, errFrame
	}
	if err := json.Unmarshal(b[:size], &m); err != nil {
		return m, fmt.Errorf("%w: %w", errFrame, err)
	}
	b = b[size:]
	for _, s := range m.Sizes {
		if s < 0 || s > len(b) {
			return m, errFrame
		}
		m.parts, b = append(m.parts, b[:s:s]), b[s:]
	}
	if len(b) > 0 || (m.Op == "result" && len(m.parts) != 2) {
		return m, errFrame
	}
	return m, nil
}
