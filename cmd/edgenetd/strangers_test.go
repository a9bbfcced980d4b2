package main

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"edgenet.dev/proto/api"
)

// What a worker gives as its reason, or brings as output, does not steer the
// terminal of whoever reads of it.
func TestStrangersDoNotSteerTheTerminal(t *testing.T) {
	const evil = "no\x1b]0;owned\a\u009b2J\x7f"
	var log strings.Builder
	l := zap.New(zapcore.NewCore(encoder("console"), zapcore.AddSync(&log), zap.InfoLevel)).Named("node").With(zap.String("peer", evil))
	l.Info("assignment refused: "+evil+"\nINFO forged", zap.String("code", evil), zap.Error(errors.New(evil)))
	for name, text := range map[string]string{
		"an error": sentence(judge(&api.Job{Id: "1", State: "failed", Reason: "lost: " + evil})),
		"a log":    strings.TrimSuffix(log.String(), "\n"),
		"output":   outputText("", []byte("\u009b2J")),
	} {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || unicode.IsControl(r) && r != '\t' }) {
			t.Errorf("%s: %q", name, text)
		}
	}
}
