package api

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// access says which key opens a path.
type access uint8

const (
	// byPublisher opens with the publish key: what changes one publication.
	byPublisher access = iota
	// byEither opens with the publish key or the admin key: what back ends and operators both do.
	byEither
	// byAdmin opens with the admin key: what reads or changes more than one publication. Without
	// an admin key, it opens to programs on this machine, see [gate.checkLocal].
	byAdmin
)

// gate decides who may use a path.
type gate struct {
	publish, admin *Key
	local          bool // the listener is a loopback address
}

// check returns nil if the request may use a path, or the reason why not.
func (g *gate) check(r *http.Request, a access) error {
	switch {
	case a == byPublisher && !g.publish.isSet(), a == byEither && !g.publish.isSet() && !g.admin.isSet():
		return errNotEnabled
	case a != byAdmin && g.publish.shownBy(r), a != byPublisher && g.admin.shownBy(r):
		return nil
	case a != byAdmin || g.admin.isSet():
		return errUnauthenticated
	default:
		return g.checkLocal(r)
	}
}

// checkLocal admits, without a key, a program on this machine, and nothing else. There are three
// ways in which others get through to a loopback address: a proxy that passes requests on; a page
// in a browser on this machine, whose name was made to lead to this address (DNS rebinding); and a
// page that sends a request across origins, whose answer it cannot read, but whose effect it has.
func (g *gate) checkLocal(r *http.Request) error {
	switch {
	case !g.local || !isLoopback(r.RemoteAddr) || wasForwarded(r):
		return errAdminKeyRequired
	case !isLoopback(r.Host):
		return errForeignHost
	case fromPage(r):
		return errForeignPage
	default:
		return nil
	}
}

// IsLoopback reports whether an address, HOST:PORT, can be reached only from this machine.
func IsLoopback(address string) bool { return isLoopback(address) }

// isLoopback reports whether a host, with or without a port, is an address or the name of this
// machine for itself.
func isLoopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostPort, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// wasForwarded reports whether a proxy passed the request on.
func wasForwarded(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if len(r.Header.Values(name)) > 0 {
			return true
		}
	}
	return false
}

// fromPage reports whether a page of another origin sent the request. Programs send neither header.
func fromPage(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return true
	}
	for _, origin := range r.Header.Values("Origin") {
		if u, err := url.Parse(origin); err != nil || u.Host != r.Host {
			return true
		}
	}
	return false
}
