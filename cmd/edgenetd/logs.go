package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/gologshim"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
)

// openLog makes the daemon's log. close flushes it. libp2p (slog) and kad-dht
// (go-log) write into it too, so it must be called before they log anything.
func openLog(cfg *config, stderr io.Writer) (log *zap.Logger, close func(), err error) {
	level, err := zapcore.ParseLevel(cfg.text("log.level"))
	if err != nil {
		return nil, nil, failf(exitRefused, "%w", err)
	}
	sink, isFile := zapcore.Lock(zapcore.AddSync(stderr)), false
	closeFile := func() {}
	if name := cfg.text("log.file"); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, nil, failf(exitStorage, "the log file cannot be opened: %w; correct log.file or --log-file", err)
		}
		sink, isFile, closeFile = zapcore.Lock(f), true, func() { f.Close() }
	}
	format := cfg.text("log.format")
	if format == "auto" {
		format = "json"
		if !isFile && onTerminal(stderr) {
			format = "console"
		}
	}
	core := zapcore.NewCore(encoder(format), sink, level)
	log = zap.New(core, zap.ErrorOutput(sink))
	bridge(core, level)
	return log, func() { _ = log.Sync(); closeFile() }, nil
}

func encoder(format string) zapcore.Encoder {
	e := zap.NewProductionEncoderConfig()
	e.EncodeTime = zapcore.ISO8601TimeEncoder
	if format == "console" {
		e.EncodeLevel = zapcore.CapitalLevelEncoder
		return zapcore.NewConsoleEncoder(e)
	}
	return zapcore.NewJSONEncoder(e)
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
