//go:build unix

package jsengine_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
	"edgenet.dev/sandbox/enginetest/jsengine"
)

// TestBombsNode: what is meant to harm the engine of a tab ends as the corpus
// says, in both forms of the module, and the Worker's owner stays free to serve
// others meanwhile.
func TestBombsNode(t *testing.T) {
	for name, opt := range map[string]jsengine.Options{"plain": {Slots: 2}, "sliced": {Slots: 2, Sliced: true}} {
		t.Run(name, func(t *testing.T) {
			e := start(t, jsengine.NewNode, opt)
			echo := prepare(t, enginetest.Echo())
			for _, bomb := range enginetest.Bombs() {
				if bomb.Refused != "" {
					continue // before any engine sees it
				}
				m := prepare(t, bomb.Module())
				ended := make(chan sandbox.Result, 1)
				began := time.Now()
				go func() {
					defer close(ended)
					res, err := e.Run(context.Background(), m, nil, sandbox.Task{Limits: bomb.Limits})
					if err != nil {
						t.Errorf("%s: %v", bomb.Name, err)
						return
					}
					ended <- res
				}()
				served := 0
				for going := true; going; {
					select {
					case res, ok := <-ended:
						going = false
						if ok && !slices.Contains(bomb.Status, res.Status) {
							t.Errorf("%s: %s, want one of %v", bomb.Name, res.Status, bomb.Status)
						}
					default:
						if res := run(t, e, echo, []byte("x"), sandbox.Task{}); res.Status != proto.StatusOK {
							t.Fatalf("beside %s: %s", bomb.Name, show(res))
						}
						served++
						time.Sleep(5 * time.Millisecond)
					}
				}
				t.Logf("%s: %s, %d tasks beside it", bomb.Name, time.Since(began).Round(time.Millisecond), served)
			}
		})
	}
}
