package bench

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// newRun decides which connection joins which groups. It opens nothing yet.
func newRun(ctx context.Context, opts Options, t target) (*run, error) {
	if limit := openFilesLimit(); opts.Conns > limit-spareFiles {
		return nil, fmt.Errorf("--conns: %d connections exceed the limit of %d open files (ulimit -n)", opts.Conns, limit)
	}
	r := &run{
		opts: opts, bare: t.bare != nil, clock: newClock(),
		failed: make(chan error, 1), closes: make(map[int]int64),
	}
	var servers []*server
	for address := range strings.SplitSeq(t.url, ",") {
		s, err := newServer(ctx, address)
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
	}
	r.from.Store(math.MaxInt64)
	r.until.Store(math.MaxInt64)
	if opts.Rate == 0 {
		r.tokens = make(chan struct{}, opts.InFlight)
		for range opts.InFlight {
			r.tokens <- struct{}{}
		}
	}
	return r, r.populate(ctx, opts, servers, t.bare)
}

// server is one server that connections go to.
type server struct {
	url    *url.URL
	addr   netip.AddrPort
	secure bool // over TLS
	origin string
}

func newServer(ctx context.Context, address string) (*server, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	scheme := "http"
	if isSecure(address) {
		scheme = "https"
	}
	addr, err := resolve(ctx, u, scheme)
	return &server{url: u, addr: addr, secure: scheme == "https", origin: scheme + "://" + u.Host}, err
}

// resolve returns the address of a URL, IPv4 if there is a choice, because loopback has many
// source addresses only there.
func resolve(ctx context.Context, u *url.URL, scheme string) (netip.AddrPort, error) {
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", cmp.Or(u.Port(), scheme))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("url: %w", err)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("url: %w", err)
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.Unmap().BitLen() - b.Unmap().BitLen() })
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(port)), nil //nolint:gosec // a port
}

// populate makes organizations, groups, connections and the cookies with which they sign in. bare is
// nil for gateways: see target.
func (r *run) populate(ctx context.Context, opts Options, servers []*server, bare func(*client) string) error {
	keys, err := keyspace.New(opts.Prefix)
	if err != nil {
		return err
	}
	if db, err := opts.Redis.Database(); err == nil { // the limit of the machine needs no Redis
		keys = keys.InDatabase(db)
	}
	orgs := make([]*organization, min(opts.Orgs, opts.Conns))
	rooms := make([][]*room, len(orgs))
	for i := range orgs {
		noisy := opts.Noisy && i == 0
		name := "bench-" + strconv.Itoa(i)
		if noisy { // a separate name, because the server may limit this organization for a while
			name = "bench-noisy"
		}
		id, err := orgctx.ParseID(name)
		if err != nil {
			return fmt.Errorf("organization %s: %w", name, err)
		}
		orgs[i] = &organization{id: id, head: eventHead(name), noisy: noisy}
		rooms[i] = make([]*room, opts.GroupsPerOrg)
	}
	for i := range opts.Conns {
		nth := i / len(orgs) // of its organization
		c := &client{index: i, org: orgs[i%len(orgs)], fd: -1, stalled: i >= opts.Conns-opts.Stalled}
		c.server = servers[(i+nth)%len(servers)] // each organization is on all of them
		for j := range opts.GroupsPerConn {
			number := (nth*opts.GroupsPerConn + j) % opts.GroupsPerOrg
			member := &rooms[i%len(orgs)][number]
			if *member == nil {
				if *member, err = r.newRoom(keys, c.org, number); err != nil {
					return err
				}
			}
			c.memberships = append(c.memberships, membership{room: *member})
		}
		path, cookie := c.server.url.RequestURI(), ""
		if bare != nil {
			path = bare(c) // this server asks for no session
		} else if cookie, err = signIn(ctx, opts.Sessions, c); err != nil {
			return err
		}
		if c.request, err = c.opening(path, cookie, &opts); err != nil {
			return err
		}
		r.clients = append(r.clients, c)
	}
	if opts.NoisyUnheard {
		r.unheard, err = r.newRoom(keys, orgs[0], opts.GroupsPerOrg)
	}
	return err
}

// newRoom creates a group. Groups without members are not created, because events go to all groups
// in turn.
func (r *run) newRoom(keys keyspace.Keyspace, org *organization, number int) (*room, error) {
	group, err := event.NewGroup(org.id, r.opts.GroupPrefix+strconv.Itoa(number))
	if err != nil {
		return nil, err
	}
	made := &room{
		index: len(r.rooms), number: int64(number), org: org, group: group, tail: eventTail(group.Name()),
		channel: keys.GroupChannel(group), completed: r.tokens,
	}
	if r.tokens != nil && !org.noisy {
		made.outstanding = newOutstanding(r.opts.InFlight)
	}
	r.rooms = append(r.rooms, made)
	return made, nil
}
