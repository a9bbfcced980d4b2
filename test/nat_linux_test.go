package test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/test/daemon"
)

// behindNAT makes two network namespaces: outside, which has a public address,
// and inside, whose one machine reaches it through a router that gives everything
// its own address. Without the permission or the tool for it the test is skipped.
func behindNAT(t *testing.T) (outside, inside string) {
	t.Helper()
	prefix := "net-" + strconv.Itoa(os.Getpid()) + "-"
	outside, inside = prefix+"out", prefix+"in"
	router := prefix + "nat"
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed, so there is no router to share an address; 'make setup' installs it")
	}
	for i, ns := range []string{router, outside, inside} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			if i == 0 {
				t.Skipf("network namespaces cannot be made here (%v: %s); run this test as root", err, out)
			}
			t.Fatalf("netns %s: %v: %s", ns, err, out)
		}
		t.Cleanup(func() { ip(t, "netns", "del", ns) })
		ip(t, "-n", ns, "link", "set", "lo", "up")
	}
	for _, x := range []struct{ ns, dev, addr, gateway string }{
		{outside, "wan", "198.51.100.1", "198.51.100.2"},
		{inside, "lan", "10.79.0.2", "10.79.0.1"},
	} {
		ip(t, "-n", x.ns, "link", "add", "eth0", "type", "veth", "peer", "name", x.dev, "netns", router)
		ip(t, "-n", x.ns, "addr", "add", x.addr+"/24", "dev", "eth0")
		ip(t, "-n", x.ns, "link", "set", "eth0", "up")
		ip(t, "-n", router, "addr", "add", x.gateway+"/24", "dev", x.dev)
		ip(t, "-n", router, "link", "set", x.dev, "up")
	}
	ip(t, "-n", inside, "route", "add", "default", "via", "10.79.0.1") // outside has none: it reaches the router only
	for _, rule := range []string{
		"echo 1 > /proc/sys/net/ipv4/ip_forward",
		"nft add table ip nat",
		"nft 'add chain ip nat out { type nat hook postrouting priority 100; }'",
		"nft add rule ip nat out oifname wan masquerade",
	} {
		if out, err := exec.Command("ip", "netns", "exec", router, "sh", "-c", rule).CombinedOutput(); err != nil {
			t.Skipf("no router can be made here (%s: %v: %s)", rule, err, out)
		}
	}
	return outside, inside
}

// Fourteen nodes behind one address are all there for a witness outside, and work
// for each other: what bounds an address leaves room for an office.
func TestManyNodesBehindOneAddress(t *testing.T) {
	outside, inside := behindNAT(t)
	const behind = 14
	listen := func(ip string) []string {
		return []string{"--listen", "/ip4/" + ip + "/tcp/0", "--listen", "/ip4/" + ip + "/udp/0/quic-v1"}
	}
	specs := []daemon.Spec{{Name: "witness", Witness: true, Namespace: outside, Flags: with(listen("198.51.100.1"), "--dht", "server", "--no-work", "--relay")}}
	for i := range behind {
		flags := with(listen("10.79.0.2"), "--dht", "client")
		if i == 0 {
			flags = append(flags, "--no-work")
		}
		specs = append(specs, daemon.Spec{Name: fmt.Sprint("inside", i), Grant: thousand, Namespace: inside, Via: []string{"witness"}, Flags: flags})
	}
	n := networkOf(t, new(proto.Genesis), specs...)
	eventually(t, "the witness is connected to every node behind the address", func() (bool, string) {
		st := status(t, n.Node("witness"))
		return st.Peers == behind, fmt.Sprint(st.Peers)
	})
	id := submit(t, n.Node("inside0"), countJob(3, texts(20)...))
	if j := finished(t, n.Node("inside0"), id); j.State != "done" {
		t.Error(describe(j))
	}
	if log := n.Logs(1 << 20); strings.Contains(log, "resource limit exceeded") {
		t.Error("connections were refused")
	}
}
