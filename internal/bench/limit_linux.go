package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// limitServer and subscriberServer are the names with which the binary runs itself as the server of
// [Limit] and [Subscriber]. It is a separate process, so that its CPU time is separate from the client's.
const (
	limitServer      = "limit-server"
	subscriberServer = "subscriber-server"
)

// Limit measures what the machine itself allows: the same client and the same load against a
// server that does nothing but write. It writes each event as one prebuilt frame straight to the
// net.Conn of each member, one write each, in one loop; no sign-in, no checks, no queues, no Redis.
func Limit(ctx context.Context, opts Options, progress io.Writer) (rep Report, err error) {
	opts = opts.bare()
	if err := opts.validate(true); err != nil {
		return Report{}, err
	}
	child, err := startServer(ctx, limitServer, opts.URL)
	if err != nil {
		return Report{}, fmt.Errorf("limit: %w", err)
	}
	defer func() { err = errors.Join(err, child.end()) }()
	if err := child.awaitAddress(); err != nil {
		return Report{}, fmt.Errorf("limit: %w", err)
	}
	return execute(ctx, opts, target{
		name: "limit", bare: limitPath, url: child.url, observer: newObserver([]int{child.cmd.Process.Pid}, ""),
		open: func() sink { return &pipeSink{w: child.stdin} },
	}, progress)
}

// bareServer is a child process, which ends when its standard input does.
type bareServer struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
	url    string
}

// startServer runs a child process. It must outlive ctx, because an interrupted run still drains.
func startServer(ctx context.Context, name, over string) (*bareServer, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &bareServer{url: "ws://", cmd: exec.CommandContext(context.WithoutCancel(ctx), binary, "bench", name, "--url", over)} //nolint:gosec // ourselves
	if isSecure(over) {
		s.url = "wss://"
	}
	s.cmd.Stderr = os.Stderr
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if s.stdout, err = s.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return s, s.cmd.Start()
}

// awaitAddress waits until the child process listens.
func (s *bareServer) awaitAddress() error {
	address, err := bufio.NewReader(s.stdout).ReadString('\n')
	if err != nil {
		return fmt.Errorf("server did not start: %w", err)
	}
	s.url += strings.TrimSpace(address) + "/"
	return nil
}

func (s *bareServer) end() error { return errors.Join(s.stdin.Close(), s.cmd.Wait()) }

// limitPath tells the limit's server the groups of a connection.
func limitPath(c *client) string {
	var path strings.Builder
	path.WriteString("/?")
	for i := range c.memberships {
		fmt.Fprintf(&path, "g=%d&", c.memberships[i].room.index)
	}
	return path.String()
}

// limitHandshake bounds a handshake with the limit's server.
const limitHandshake = 10 * time.Second

// member is one connection of the limit's server.
type member struct {
	conn net.Conn
	gone atomic.Bool
}

// members are the connections of each group, which a connection names by text.
type members[K comparable] struct {
	// key returns the group that a connection named. Its members get its events after that.
	key func(text string) (K, error)

	mu     sync.Mutex
	closed bool
	groups map[K][]*member
	all    map[*member]struct{}
}

// serveLimit is the limit's server, with TLS if the URL over asks for it. It announces its address on stdout, reads events from stdin
// (see pipeSink) and returns when stdin ends.
func serveLimit(ctx context.Context, over string, stdin io.Reader, stdout io.Writer) error {
	m := newMembers(func(text string) (uint32, error) {
		group, err := strconv.ParseUint(text, 10, 32)
		return uint32(group), err
	})
	if err := m.listen(ctx, over, stdout, func() error { return fanOut(m, stdin) }); err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	return nil
}

func newMembers[K comparable](key func(string) (K, error)) *members[K] {
	return &members[K]{key: key, groups: make(map[K][]*member), all: make(map[*member]struct{})}
}

// listen accepts connections while work runs.
func (m *members[K]) listen(ctx context.Context, over string, stdout io.Writer, work func() error) (err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if isSecure(over) {
		config, err := selfSigned()
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		listener = tls.NewListener(listener, config)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { m.serve(conn) })
		}
	})
	defer func() {
		err = errors.Join(err, listener.Close())
		m.close()
		serving.Wait()
	}()
	if _, err := fmt.Fprintln(stdout, listener.Addr()); err != nil {
		return err
	}
	return work()
}

// serve answers the upgrade request and waits for the end of the connection, which costs nothing
// while others write to it.
func (m *members[K]) serve(conn net.Conn) {
	c := &member{conn: conn}
	if m.add(c) == nil {
		var ignored [256]byte
		for {
			if _, err := conn.Read(ignored[:]); err != nil {
				break
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c.gone.Store(true) // fanOut takes it out of its groups
	delete(m.all, c)
	_ = conn.Close() // it is not needed anymore, whatever Close returns
}

// add answers the upgrade request and adds the connection to its groups.
func (m *members[K]) add(c *member) error {
	if err := c.conn.SetDeadline(time.Now().Add(limitHandshake)); err != nil {
		return err
	}
	req, err := http.ReadRequest(bufio.NewReaderSize(c.conn, 1<<10))
	if err != nil {
		return err
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	var groups []K
	for _, text := range req.URL.Query()["g"] {
		group, err := m.key(text)
		if err != nil {
			return err
		}
		groups = append(groups, group)
	}
	// The answer is sent under the lock: no event may come before it, and none after it may miss
	// the connection.
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return net.ErrClosed
	}
	_, err = io.WriteString(c.conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: "+acceptValue+"\r\n\r\n")
	if err != nil {
		return err
	}
	for _, group := range groups {
		m.groups[group] = append(m.groups[group], c)
	}
	m.all[c] = struct{}{}
	return nil
}

// fanOut is the loop that is the limit.
func fanOut(m *members[uint32], stdin io.Reader) error {
	events := bufio.NewReaderSize(stdin, 64<<10)
	var header [8]byte
	var frame, payload []byte
	for {
		if _, err := io.ReadFull(events, header[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		group := binary.LittleEndian.Uint32(header[:])
		size := int(binary.LittleEndian.Uint32(header[4:]))
		payload = append(payload[:0], make([]byte, size)...)
		if _, err := io.ReadFull(events, payload); err != nil {
			return err
		}
		frame = appendServerFrame(frame[:0], opText, payload)
		m.write(group, frame)
	}
}

// write writes a frame to each member of a group.
func (m *members[K]) write(group K, frame []byte) {
	m.mu.Lock()
	conns := m.groups[group]
	m.mu.Unlock()
	gone := false
	for _, c := range conns {
		if c.gone.Load() {
			gone = true
			continue
		}
		if _, err := c.conn.Write(frame); err != nil {
			gone = true
		}
	}
	if gone {
		m.prune(group)
	}
}

// prune removes members that left from a group.
func (m *members[K]) prune(group K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.groups[group] = slices.DeleteFunc(m.groups[group], func(c *member) bool { return c.gone.Load() })
}

// close ends all connections, and every handshake in progress.
func (m *members[K]) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for c := range m.all {
		_ = c.conn.Close() // the process ends next
	}
}
