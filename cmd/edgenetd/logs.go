package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"syscall"
	"unicode"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/gologshim"
	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
	"gopkg.in/natefinch/lumberjack.v2"
)

// daemonLog is the log of a running daemon.
type daemonLog struct {
	*zap.Logger
	file *lumberjack.Logger // nil when the log goes elsewhere than into a regular file
	out  io.Closer          // nil for standard error
}

// openLog makes the daemon's log. libp2p (slog) and kad-dht (go-log) write into
// it too, so it must be called before they log anything.
func openLog(cfg *config, stderr io.Writer) (*daemonLog, error) {
	level, err := zapcore.ParseLevel(cfg.text("log.level"))
	if err != nil {
		return nil, failf(exitRefused, "%w", err)
	}
	l := &daemonLog{}
	sink := zapcore.Lock(zapcore.AddSync(stderr))
	if name := cfg.text("log.file"); name != "" {
		if sink, err = l.openFile(cfg, name); err != nil {
			return nil, failf(exitStorage, "the log file cannot be opened: %w; correct log.file or --log-file", err)
		}
	}
	format := cfg.text("log.format")
	if format == "auto" {
		format = "json"
		if l.out == nil && onTerminal(stderr) {
			format = "console"
		}
	}
	core := zapcore.NewCore(encoder(format), sink, level)
	l.Logger = zap.New(core, zap.ErrorOutput(sink))
	bridge(core, level)
	return l, nil
}

// openFile logs into a file that is rotated by size. What is no regular file,
// such as a named pipe, is written as it is.
func (l *daemonLog) openFile(cfg *config, name string) (zapcore.WriteSyncer, error) {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if !info.Mode().IsRegular() {
		l.out = f
		return zapcore.Lock(f), nil
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	size := cfg.number("log.max-size")
	if size == 0 { // never
		size = math.MaxInt32
	}
	l.file = &lumberjack.Logger{Filename: name, MaxSize: size, MaxBackups: cfg.number("log.keep")}
	l.out = l.file
	return zapcore.AddSync(l.file), nil
}

// reopen closes the file at every SIGHUP until ctx ends, and calls also; the next
// line opens it again under its name. So logrotate and the like can move it away.
func (l *daemonLog) reopen(ctx context.Context, also func()) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Ignore(syscall.SIGHUP) // Stop would let it end the process, which has not ended in order yet
	for {
		select {
		case <-hup:
			also()
			if l.file == nil {
				continue
			}
			if err := l.file.Close(); err != nil {
				l.Warn("reopen the log file", zap.Error(err))
			}
			l.Info("log file reopened")
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *daemonLog) close() {
	_ = l.Sync()
	if l.out != nil {
		l.out.Close()
	}
}

func encoder(format string) zapcore.Encoder {
	e := zap.NewProductionEncoderConfig()
	e.EncodeTime = zapcore.ISO8601TimeEncoder
	if format == "console" {
		e.EncodeLevel = zapcore.CapitalLevelEncoder
		return harmlessLines{zapcore.NewConsoleEncoder(e)}
	}
	return zapcore.NewJSONEncoder(e)
}

// harmlessLines escapes what zap's console format does not: strangers' words are
// in messages and fields.
type harmlessLines struct{ zapcore.Encoder }

func (h harmlessLines) Clone() zapcore.Encoder { return harmlessLines{h.Encoder.Clone()} }

func (h harmlessLines) EncodeEntry(e zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	e.Message = harmless(e.Message) // line ends, too
	line, err := h.Encoder.EncodeEntry(e, fields)
	if err != nil {
		return nil, err
	}
	text := line.String()
	line.Reset()
	for _, r := range text {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			line.AppendString(harmless(string(r)))
		} else {
			line.AppendString(string(r))
		}
	}
	return line, nil
}

// bridge leads the logs of libp2p and its relatives into core. What they call
// information is detail here, so it is shown at debug level only.
func bridge(core zapcore.Core, level zapcore.Level) {
	foreign, own := zapcore.ErrorLevel, golog.LevelError
	if level == zapcore.DebugLevel {
		foreign, own = zapcore.InfoLevel, golog.LevelInfo
	}
	quiet, err := zapcore.NewIncreaseLevelCore(core, max(foreign, level))
	if err != nil { // cannot be: the level is never below core's
		panic(fmt.Sprintf("log level: %v", err))
	}
	var h slog.Handler = zapslog.NewHandler(quiet, zapslog.WithName("libp2p"))
	gologshim.SetDefaultHandler(h)
	golog.SetPrimaryCore(quiet)
	golog.SetAllLoggers(own)
}
