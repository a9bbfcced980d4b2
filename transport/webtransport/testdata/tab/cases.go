//go:build js

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// withHost runs a case on a fresh host that is connected to the server.
func withHost(f func(ctx context.Context, h host.Host, server peer.ID) error) func(context.Context) error {
	return func(ctx context.Context) error {
		h, server, err := connect(ctx, conf.Addrs)
		if err != nil {
			return err
		}
		defer h.Close()
		return f(ctx, h, server)
	}
}

func init() {
	cases = append(cases,
		testCase{"identify", withHost(identify)},
		testCase{"echo", withHost(func(ctx context.Context, h host.Host, server peer.ID) error { return echo(ctx, h, server, 20<<20) })},
		testCase{"streams", withHost(streams)},
		testCase{"readDeadline", withHost(readDeadline)},
		testCase{"writeDeadline", withHost(writeDeadline)},
		testCase{"resetByTab", withHost(resetByTab)},
		testCase{"resetByServer", withHost(resetByServer)},
		testCase{"stopByServer", withHost(stopByServer)},
		testCase{"halfClose", withHost(halfClose)},
		testCase{"closeRead", withHost(closeRead)},
		testCase{"closeConn", withHost(closeConn)},
		testCase{"serverCloses", withHost(serverCloses)},
		testCase{"backPressure", withHost(backPressure)},
		testCase{"closeWhileWriting", closeWhileWriting},
		testCase{"streamToTab", withHost(streamToTab)},
		testCase{"gossip", withHost(gossip)},
		testCase{"noLeak", noLeak},
		testCase{"relayed", relayed},
		testCase{"webSocket", webSocket},
	)
}

func identify(ctx context.Context, h host.Host, server peer.ID) error {
	conn := h.Network().ConnsToPeer(server)[0]
	if got := conn.ConnState().Transport; got != "webtransport" {
		return fmt.Errorf("connected over %q", got)
	}
	if a := conn.RemoteMultiaddr().String(); strings.Contains(a, "certhash") || !strings.Contains(a, "/webtransport") {
		return fmt.Errorf("remote address %s", a)
	}
	if conn.RemotePublicKey() == nil || !server.MatchesPublicKey(conn.RemotePublicKey()) {
		return errors.New("no public key of the server")
	}
	return until(ctx, "the server's protocols known", func() bool {
		got, err := h.Peerstore().SupportsProtocols(server, "/echo/1", "/libp2p/circuit/relay/0.2.0/hop")
		return err == nil && len(got) == 2
	})
}

func echo(ctx context.Context, h host.Host, server peer.ID, size int) error {
	s, err := h.NewStream(ctx, server, "/echo/1")
	if err != nil {
		return err
	}
	defer s.Reset()
	sent := make(chan []byte, 1)
	go func() {
		sum := sha256.New()
		b := make([]byte, 100_000) // no multiple of any buffer
		for left := size; left > 0; {
			b = b[:min(left, len(b))]
			rand.Read(b)
			sum.Write(b)
			if _, err := s.Write(b); err != nil {
				note("write: %v", err)
				break
			}
			left -= len(b)
		}
		s.CloseWrite()
		sent <- sum.Sum(nil)
	}()
	start := time.Now()
	sum := sha256.New()
	n, err := io.Copy(sum, s)
	if err != nil {
		return err
	}
	if n != int64(size) || !bytes.Equal(sum.Sum(nil), <-sent) {
		return fmt.Errorf("%d of %d bytes came back, or others", n, size)
	}
	note("%.1f MiB/s each way", float64(size)/(1<<20)/time.Since(start).Seconds())
	return nil
}

func streams(ctx context.Context, h host.Host, server peer.ID) error {
	const total, atOnce = 1000, 128
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	errs := make(chan error, total)
	for i := range total {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := roundTrip(ctx, h, server, fmt.Sprintf("stream %d", i)); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return fmt.Errorf("%d of %d failed, one with: %w", len(errs)+1, total, err)
	}
	return nil
}

func roundTrip(ctx context.Context, h host.Host, to peer.ID, text string) error {
	s, err := h.NewStream(network.WithAllowLimitedConn(ctx, "test"), to, "/echo/1")
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := io.WriteString(s, text); err != nil {
		return err
	}
	s.CloseWrite()
	b, err := io.ReadAll(s)
	if err != nil {
		return err
	}
	if string(b) != text {
		return fmt.Errorf("sent %q, got %q", text, b)
	}
	return nil
}

// open opens a stream and finishes protocol negotiation, which libp2p would
// otherwise do with the first bytes.
func open(ctx context.Context, h host.Host, server peer.ID, id protocol.ID) (network.Stream, error) {
	s, err := h.NewStream(ctx, server, id)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write([]byte{'!'}); err != nil {
		return nil, err
	}
	var b [1]byte
	if _, err := io.ReadFull(s, b[:]); err != nil {
		return nil, err
	}
	if b[0] != '!' {
		return nil, fmt.Errorf("greeted with %q", b)
	}
	return s, nil
}

// readDeadline lets deadlines pass while bytes trickle in and wants every byte.
func readDeadline(ctx context.Context, h host.Host, server peer.ID) error {
	s, err := open(ctx, h, server, "/trickle/1") // 1 KiB every 20 ms, 50 times
	if err != nil {
		return err
	}
	defer s.Reset()
	var got []byte
	late := 0
	b := make([]byte, 300)
	s.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := s.Read(b); !timedOut(err) {
		return fmt.Errorf("read after a deadline in the past: %v", err)
	}
	for {
		s.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		n, err := s.Read(b)
		got = append(got, b[:n]...)
		if timedOut(err) {
			late++
			continue
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	note("%d deadlines passed", late)
	if late < 5 {
		return errors.New("the deadlines did not pass")
	}
	if len(got) != 50<<10 {
		return fmt.Errorf("%d of %d bytes came", len(got), 50<<10)
	}
	for i, c := range got {
		if c != byte(i>>10) {
			return fmt.Errorf("byte %d is %d", i, c)
		}
	}
	return nil
}

// timedOut: yamux has its own error.
func timedOut(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// writeDeadline fills a stream whose reader sleeps; what Write says it took is
// what arrives.
func writeDeadline(ctx context.Context, h host.Host, server peer.ID) error {
	s, err := open(ctx, h, server, "/sleepy/1") // reads only after /ask wake, then tells length and sum
	if err != nil {
		return err
	}
	defer s.Reset()
	s.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	sum := sha256.New()
	total := 0
	b := make([]byte, 150_000)
	for {
		rand.Read(b)
		n, err := s.Write(b)
		sum.Write(b[:n])
		total += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return err
		}
		if total > 64<<20 {
			return errors.New("64 MiB went to a peer that does not read")
		}
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("write after the deadline: %v", err)
	}
	s.SetWriteDeadline(time.Time{})
	if _, err := ask(ctx, h, server, "wake"); err != nil {
		return err
	}
	if _, err := s.Write([]byte("end")); err != nil {
		return err
	}
	sum.Write([]byte("end"))
	s.CloseWrite()
	answer, err := io.ReadAll(s)
	if err != nil {
		return err
	}
	note("%d KiB before the deadline", total>>10)
	if want := fmt.Sprintf("%d %x", total+3, sum.Sum(nil)); string(answer) != want {
		return fmt.Errorf("server got %s, sent %s", answer, want)
	}
	return nil
}

// resetByTab resets a stream and asks the server what it saw.
func resetByTab(ctx context.Context, h host.Host, server peer.ID) error {
	s, err := open(ctx, h, server, "/watch/1")
	if err != nil {
		return err
	}
	reading := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		reading <- err
	}()
	time.Sleep(20 * time.Millisecond)
	s.ResetWithError(0x1003)
	if err := <-reading; !errors.Is(err, network.ErrReset) {
		return fmt.Errorf("read of a reset stream: %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, network.ErrReset) {
		return fmt.Errorf("write to a reset stream: %v", err)
	}
	seen, err := ask(ctx, h, server, "seen")
	if err != nil {
		return err
	}
	note("server saw %s", seen)
	if !strings.HasPrefix(seen, "reset") || !strings.Contains(seen, "remote") {
		return fmt.Errorf("server saw %q", seen)
	}
	return nil
}

func resetByServer(ctx context.Context, h host.Host, server peer.ID) error {
	s, err := open(ctx, h, server, "/reset/1")
	if err != nil {
		return err
	}
	defer s.Reset()
	s.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = s.Read(make([]byte, 1))
	var e *network.StreamError
	if !errors.As(err, &e) || !e.Remote {
		return fmt.Errorf("read of a stream that the server reset: %v", err)
	}
	note("%v", err)
	for err = nil; err == nil; time.Sleep(time.Millisecond) {
		_, err = s.Write(make([]byte, 1000))
	}
	if !errors.As(err, &e) || !e.Remote {
		return fmt.Errorf("write to a stream that the server reset: %v", err)
	}
	return nil
}

// stopByServer: the server stops reading; its other half still works.
func stopByServer(ctx context.Context, h host.Host, server peer.ID) error {
	s, err := open(ctx, h, server, "/stop/1")
	if err != nil {
		return err
	}
	defer s.Reset()
	s.SetDeadline(time.Now().Add(10 * time.Second))
	var e *network.StreamError
	b := make([]byte, maxWrite)
	for {
		if _, err := s.Write(b); err != nil {
			if !errors.As(err, &e) || !e.Remote {
				return fmt.Errorf("write to a stopped stream: %v", err)
			}
			break
		}
	}
	got, err := io.ReadAll(s)
	if err != nil || string(got) != "still here" {
		return fmt.Errorf("read %q, %v", got, err)
	}
	return nil
}

const maxWrite = 32 << 10

// halfClose sends, closes its half and reads the answer about all of it.
func halfClose(ctx context.Context, h host.Host, server peer.ID) error {
	s, err := h.NewStream(ctx, server, "/sum/1")
	if err != nil {
		return err
	}
	defer s.Close()
	b := make([]byte, 3<<20+17)
	rand.Read(b)
	if _, err := s.Write(b); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	if _, err := s.Write([]byte("x")); err == nil {
		return errors.New("write after CloseWrite worked")
	}
	answer, err := io.ReadAll(s)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("%d %x", len(b), sha256.Sum256(b)); string(answer) != want {
		return fmt.Errorf("server got %s, sent %s", answer, want)
	}
	return nil
}

// closeRead ends a waiting Read and leaves the other half working.
func closeRead(ctx context.Context, h host.Host, server peer.ID) error {
	s, err := open(ctx, h, server, "/sum/2") // greets
	if err != nil {
		return err
	}
	defer s.Reset()
	reading := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		reading <- err
	}()
	time.Sleep(20 * time.Millisecond)
	if err := s.CloseRead(); err != nil {
		return err
	}
	if err := <-reading; err == nil || err == io.EOF {
		return fmt.Errorf("read after CloseRead: %v", err)
	}
	if _, err := s.Write([]byte("hello")); err != nil {
		return err
	}
	s.CloseWrite()
	seen, err := ask(ctx, h, server, "seen")
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("5 %x", sha256.Sum256([]byte("hello"))); seen != want {
		return fmt.Errorf("server got %s, sent %s", seen, want)
	}
	return nil
}

func closeConn(ctx context.Context, h host.Host, server peer.ID) error {
	s, err := open(ctx, h, server, "/watch/1")
	if err != nil {
		return err
	}
	reading := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		reading <- err
	}()
	time.Sleep(20 * time.Millisecond)
	conn := s.Conn()
	if err := conn.Close(); err != nil {
		return err
	}
	select {
	case err = <-reading:
	case <-ctx.Done():
		return errors.New("a read outlives its connection")
	}
	if err == nil || err == io.EOF {
		return fmt.Errorf("read of a closed connection: %v", err)
	}
	if !conn.IsClosed() {
		return errors.New("the connection is not closed")
	}
	if _, err := conn.NewStream(ctx); err == nil {
		return errors.New("a stream on a closed connection")
	}
	return conn.Close()
}

func serverCloses(ctx context.Context, h host.Host, server peer.ID) error {
	s, err := open(ctx, h, server, "/watch/1")
	if err != nil {
		return err
	}
	ask(ctx, h, server, "hang up")
	s.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("read after the server closed: %v", err)
	}
	return until(ctx, "the host notices", func() bool { return len(h.Network().ConnsToPeer(server)) == 0 })
}

// backPressure: a reader that sleeps stops the writer, and Go's memory stays.
func backPressure(ctx context.Context, h host.Host, server peer.ID) error {
	s, err := open(ctx, h, server, "/sleepy/1")
	if err != nil {
		return err
	}
	defer s.Reset()
	var written int
	var mu sync.Mutex
	done := make(chan error, 1)
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := s.Write(b)
			mu.Lock()
			written += n
			mu.Unlock()
			if err != nil {
				done <- err
				return
			}
		}
	}()
	count := func() int { mu.Lock(); defer mu.Unlock(); return written }
	for last, same := -1, 0; same < 20; time.Sleep(50 * time.Millisecond) {
		if n := count(); n == last {
			same++
		} else {
			last, same = n, 0
		}
		if last > 64<<20 {
			return errors.New("64 MiB went to a peer that does not read")
		}
	}
	note("blocked after %d KiB", count()>>10)
	before := count()
	if _, err := ask(ctx, h, server, "wake"); err != nil {
		return err
	}
	if err := until(ctx, "the writer goes on", func() bool { return count() > before+(1<<20) }); err != nil {
		return err
	}
	s.Reset()
	if err := <-done; !errors.Is(err, network.ErrReset) {
		return fmt.Errorf("writer ended with %v", err)
	}
	return nil
}

// closeWhileWriting closes connections with writes in flight, with and without
// a reset just before.
func closeWhileWriting(ctx context.Context) error {
	for _, reset := range []bool{false, true, true} {
		h, server, err := connect(ctx, conf.Addrs)
		if err != nil {
			return err
		}
		s, err := open(ctx, h, server, "/sleepy/1")
		if err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() {
			b := make([]byte, 64<<10)
			for {
				if _, err := s.Write(b); err != nil {
					done <- err
					return
				}
			}
		}()
		time.Sleep(500 * time.Millisecond)
		if reset {
			s.Reset()
		}
		if err := h.Close(); err != nil {
			return err
		}
		select {
		case err := <-done:
			if !errors.Is(err, network.ErrReset) {
				return fmt.Errorf("writer ended with %v", err)
			}
		case <-ctx.Done():
			return errors.New("a write outlives its connection")
		}
	}
	return nil
}
