package gateway_test

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"orgcast/internal/gateway"
)

func proxies(tb testing.TB, list ...string) gateway.Proxies {
	tb.Helper()
	p, err := gateway.ParseProxies(list)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// TestForgedForwardedFor: nobody but a trusted proxy says where a client is.
func TestForgedForwardedFor(t *testing.T) {
	edge := []string{"10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48", "fe80::/10"}
	for name, test := range map[string]struct {
		trusted []string
		peer    string
		header  []string
		want    string
	}{
		"no proxy":                              {edge, "203.0.113.9:4711", nil, "203.0.113.9"},
		"nobody is trusted":                     {nil, "10.0.0.1:4711", []string{"198.51.100.1"}, "10.0.0.1"},
		"a stranger sends the header":           {edge, "203.0.113.9:4711", []string{"198.51.100.1"}, "203.0.113.9"},
		"one proxy":                             {edge, "10.0.0.1:4711", []string{"198.51.100.1"}, "198.51.100.1"},
		"proxy without the header":              {edge, "10.0.0.1:4711", nil, "10.0.0.1"},
		"left-most entry is forged":             {edge, "10.0.0.1:4711", []string{"127.0.0.1, 198.51.100.1"}, "198.51.100.1"},
		"forged entry looks like a proxy":       {edge, "10.0.0.1:4711", []string{"10.9.9.9, 198.51.100.1"}, "198.51.100.1"},
		"three hops":                            {edge, "10.0.0.1:4711", []string{"198.51.100.1, 192.0.2.7, 10.0.0.2"}, "198.51.100.1"},
		"three hops and a forged entry":         {edge, "10.0.0.1:4711", []string{"6.6.6.6, 198.51.100.1, 192.0.2.7, 10.0.0.2"}, "198.51.100.1"},
		"hop in between that nobody trusts":     {edge, "10.0.0.1:4711", []string{"198.51.100.1, 192.0.2.8, 10.0.0.2"}, "192.0.2.8"},
		"proxies only":                          {edge, "10.0.0.1:4711", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"a header line for each hop":            {edge, "10.0.0.1:4711", []string{"6.6.6.6", "198.51.100.1", "192.0.2.7", "10.0.0.2"}, "198.51.100.1"},
		"last entry is malformed":               {edge, "10.0.0.1:4711", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		"entry in between is malformed":         {edge, "10.0.0.1:4711", []string{"198.51.100.1, _hidden, 10.0.0.2"}, "10.0.0.2"},
		"forged entry is malformed":             {edge, "10.0.0.1:4711", []string{"'; drop table, 198.51.100.1"}, "198.51.100.1"},
		"comma at the end":                      {edge, "10.0.0.1:4711", []string{"198.51.100.1,"}, "10.0.0.1"},
		"empty header":                          {edge, "10.0.0.1:4711", []string{""}, "10.0.0.1"},
		"empty line after the client's":         {edge, "10.0.0.1:4711", []string{"198.51.100.1", ""}, "10.0.0.1"},
		"IPv4 with a port":                      {edge, "10.0.0.1:4711", []string{"198.51.100.1:1234"}, "198.51.100.1"},
		"IPv6":                                  {edge, "[2001:db8:1::1]:4711", []string{"2001:db8:2::5"}, "2001:db8:2::5"},
		"IPv6 with a port":                      {edge, "[2001:db8:1::1]:4711", []string{"[2001:db8:2::5]:1234"}, "2001:db8:2::5"},
		"IPv6 in brackets":                      {edge, "[2001:db8:1::1]:4711", []string{"[2001:db8:2::5]"}, "2001:db8:2::5"},
		"IPv4 in brackets":                      {edge, "10.0.0.1:4711", []string{"[198.51.100.1]"}, "10.0.0.1"},
		"IPv6 proxy with a port":                {edge, "10.0.0.1:4711", []string{"2001:db8:2::5, [2001:db8:1::9]:80"}, "2001:db8:2::5"},
		"peer with a zone":                      {edge, "[fe80::1%eth0]:4711", []string{"198.51.100.1"}, "198.51.100.1"},
		"entry with a zone":                     {edge, "10.0.0.1:4711", []string{"fe80::2%25evil"}, "fe80::2"},
		"peer that is IPv4 in IPv6":             {edge, "[::ffff:10.0.0.1]:4711", []string{"198.51.100.1"}, "198.51.100.1"},
		"client that is IPv4 in IPv6":           {edge, "10.0.0.1:4711", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"proxy that is IPv4 in IPv6":            {edge, "10.0.0.1:4711", []string{"198.51.100.1, ::ffff:10.0.0.2"}, "198.51.100.1"},
		"spaces and tabs":                       {edge, "10.0.0.1:4711", []string{"6.6.6.6 ,\t198.51.100.1\t , 10.0.0.2 "}, "198.51.100.1"},
		"very long entry":                       {edge, "10.0.0.1:4711", []string{strings.Repeat("1", 32<<10)}, "10.0.0.1"},
		"very long header before the client's":  {edge, "10.0.0.1:4711", []string{strings.Repeat("6.6.6.6,", 4<<10) + "198.51.100.1"}, "198.51.100.1"},
		"endless chain of proxies":              {edge, "10.0.0.1:4711", []string{"198.51.100.1," + strings.Repeat("10.0.0.3,", 4<<10) + "10.0.0.2"}, "10.0.0.3"},
		"endless chain in header lines":         {edge, "10.0.0.1:4711", append([]string{"198.51.100.1"}, slices.Repeat([]string{"10.0.0.3"}, 1000)...), "10.0.0.3"},
		"peer of a network that has no address": {edge, "pipe", []string{"198.51.100.1"}, "pipe"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: test.peer, Header: http.Header{"X-Forwarded-For": test.header}}
			if got := proxies(t, test.trusted...).Client(r); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestParseProxies(t *testing.T) {
	for text, want := range map[string]string{ // "" is fine
		"10.0.0.1": "", "10.0.0.0/8": "", "2001:db8::1": "", "2001:db8::/32": "", "::ffff:10.0.0.1": "", " 10.0.0.1 ": "",
		"":                   "must be an IP address",
		"proxy.example.com":  "must be an IP address",
		"10.0.0.1:80":        "must be an IP address",
		"10.0.0.0/33":        "must be an IP address",
		"10.0.0.1/8":         "write 10.0.0.0/8",
		"0.0.0.0/0":          "would trust every peer",
		"::/0":               "would trust every peer",
		"::ffff:10.0.0.0/96": "must be written as an IPv4 network",
	} {
		_, err := gateway.ParseProxies([]string{text})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// FuzzForwardedFor: whatever the header holds, the client is one address, and a forged part to the left of an
// untrusted entry changes nothing.
func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{"", ",", "198.51.100.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "[2001:db8::5]:80", "fe80::1%x", "unknown", "::ffff:10.0.0.1"} {
		f.Add(seed)
	}
	p := proxies(f, "10.0.0.0/8")
	f.Fuzz(func(t *testing.T, text string) {
		client := func(lines ...string) string {
			return p.Client(&http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": lines}})
		}
		if got := client(text); !isAddress(got) {
			t.Errorf("%q: got %q, want an address", text, got)
		}
		if got := client(text, "198.51.100.1"); got != "198.51.100.1" {
			t.Errorf("%q before an entry of a proxy: got %q", text, got)
		}
		if got := client(text + ",198.51.100.1"); got != "198.51.100.1" {
			t.Errorf("%q before an entry of a proxy, in one line: got %q", text, got)
		}
	})
}

func isAddress(text string) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && addr.Zone() == ""
}
