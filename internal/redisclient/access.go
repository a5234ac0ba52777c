package redisclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// dialTimeout is how long a new connection to Redis may take, TLS included, unless the URL says.
const dialTimeout = 5 * time.Second

// access opens the connections of all clients of one Redis, and explains what they are refused.
type access struct {
	name    string // of the setting with the URL
	db      int
	timeout time.Duration
	hasTLS  bool
	names   *names
	// current is what new connections show and trust. A reload replaces it.
	current atomic.Pointer[secrets]
	// trouble is what the connection that was begun or refused last waits for or met, nil when it
	// was opened. The client's own error for it is the caller's deadline.
	trouble  atomic.Pointer[error]
	answered atomic.Bool // some command was
}

// secrets are what settings and their files say at one time.
type secrets struct {
	user, password                 string
	sentinelUser, sentinelPassword string
	tls                            *tls.Config // nil without TLS
}

// credentials returns the user and the password of connections from now on.
func (a *access) credentials() (user, password string) {
	s := a.current.Load()
	return s.user, s.password
}

// throughSentinels replaces the network's name where a client dials the master that its
// Sentinels named. It dials those with the same function, and they have another password.
const throughSentinels = "redis"

// dialSentinels is dial for a client with Sentinels. The client would take their password once and
// for all; so they are shown the one of now before the client gets to speak.
func (a *access) dialSentinels(ctx context.Context, network, address string) (net.Conn, error) {
	if network == throughSentinels {
		return a.dial(ctx, "tcp", address)
	}
	s := a.current.Load()
	c, err := a.dial(ctx, network, address)
	if err != nil || s.sentinelPassword == "" {
		return c, err
	}
	if err := authenticate(ctx, c, cmp.Or(s.sentinelUser, "default"), s.sentinelPassword, a.timeout); err != nil {
		err = fmt.Errorf("sentinel %s: %w (see --%s-sentinel-user and --%[3]s-sentinel-password-file)", address, err, a.name)
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// authenticate sends a user and a password. It must come first on a connection.
func authenticate(ctx context.Context, c net.Conn, user, password string, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "*3\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(user), user, len(password), password); err != nil {
		return err
	}
	// Byte by byte: what follows the answer is the client's.
	var line [256]byte
	for n := range line {
		if _, err := io.ReadFull(c, line[n:n+1]); err != nil {
			return err
		}
		if line[n] != '\n' {
			continue
		}
		if line[0] != '+' {
			return errors.New(strings.TrimSpace(strings.TrimPrefix(string(line[:n]), "-")))
		}
		return c.SetDeadline(time.Time{})
	}
	return errors.New("no answer to AUTH")
}

// dial opens a connection.
func (a *access) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	a.troubled(fmt.Errorf("connect to %s: no answer", address))
	c, err := a.open(ctx, network, address)
	if err != nil {
		a.troubled(err)
		return nil, err
	}
	a.trouble.Store(nil)
	return c, nil
}

func (a *access) troubled(err error) { a.trouble.Store(&err) }

func (a *access) open(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := a.names.dial(ctx, network, address)
	config := a.current.Load().tls
	if err != nil || config == nil {
		return c, err // plain, it must stay what the bus takes for a socket
	}
	plain := fmt.Sprintf("if the port does not use TLS, begin --%s with redis://", a.name)
	a.troubled(fmt.Errorf("TLS handshake with %s: no answer (%s)", address, plain))
	secure := tls.Client(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		var notTLS tls.RecordHeaderError
		if errors.As(err, &notTLS) || ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			err = fmt.Errorf("%w (%s)", err, plain)
		}
		_ = c.Close() // the deadline of the handshake may have closed it already
		return nil, fmt.Errorf("TLS handshake with %s: %w", address, err)
	}
	return secure, nil
}

// explained is a Redis error with advice on how to fix it.
type explained struct {
	error
	advice string
}

func (e *explained) Error() string { return e.error.Error() + " (" + e.advice + ")" }
func (e *explained) Unwrap() error { return e.error }

// explain adds advice to the error of a command if it knows any.
func (a *access) explain(command string, err error) error {
	var done *explained
	var answer redis.Error
	isAnswer := errors.As(err, &answer)
	if err == nil || isAnswer {
		a.answered.Store(true)
	}
	if err == nil || errors.Is(err, redis.Nil) || errors.As(err, &done) {
		return err
	}
	var advice string
	text := err.Error()
	contains := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case isAnswer && contains("NOPERM") && !contains("run the '"): // else Redis names it
		advice = "command " + command
	case isAnswer && contains("The user executing the script"):
		advice = "in a script, command " + command
	case isAnswer && (contains("WRONGPASS") || contains("NOAUTH") || contains("invalid password")):
		advice = fmt.Sprintf("check the user and password: percent-encode special characters such as # / %% ^ in --%s, or use --%[1]s-password-file", a.name)
	case isAnswer && contains("DB index is out of range"):
		advice = fmt.Sprintf("--%s names database %d; see the setting databases in redis.conf", a.name, a.db)
	case isAnswer && contains("cluster support disabled"):
		advice = fmt.Sprintf("--%s-cluster requires a Redis Cluster; for a single server, use --%[1]s alone", a.name)
	case !isAnswer && !a.answered.Load() && errors.Is(err, syscall.ECONNREFUSED):
		advice = fmt.Sprintf("is Redis running there? see --%s", a.name)
	case !isAnswer && !a.hasTLS && !a.answered.Load() && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || contains("EOF") || contains("can't parse")):
		advice = fmt.Sprintf("no answer: if the port uses TLS, begin --%s with rediss://", a.name)
	case errors.Is(err, context.DeadlineExceeded):
		trouble := a.trouble.Load()
		if trouble == nil || contains((*trouble).Error()) {
			return err
		}
		advice = (*trouble).Error()
	default:
		return err
	}
	return &explained{err, advice}
}

// ofConnection reports whether a command is one of those that begin a connection. What comes of
// them is the error of the command that needed it, and explained there.
func ofConnection(command string) bool {
	return command == "hello" || command == "auth" || command == "select" || command == "client"
}

var _ redis.Hook = (*access)(nil)

// DialHook implements [redis.Hook].
func (a *access) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements [redis.Hook].
func (a *access) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if ofConnection(cmd.Name()) {
			return err
		}
		if better := a.explain(cmd.FullName(), err); better != err { //nolint:errorlint // the same value
			cmd.SetErr(better)
			return better
		}
		return err
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (a *access) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if len(cmds) == 0 || ofConnection(cmds[0].Name()) {
			return err
		}
		for _, cmd := range cmds {
			if own := cmd.Err(); own != nil {
				cmd.SetErr(a.explain(cmd.FullName(), own))
			}
		}
		return a.explain(cmds[0].FullName(), err)
	}
}

// secrets returns the credentials of connections and the certificates that they trust.
func (r Options) secrets() (*secrets, error) {
	o, err := r.parse()
	if err != nil {
		return nil, err
	}
	if err := r.readTLS(o.TLSConfig); err != nil {
		return nil, err
	}
	return &secrets{
		user: o.Username, password: cmp.Or(r.Password, o.Password),
		sentinelUser: r.SentinelUser, sentinelPassword: r.SentinelPassword, tls: o.TLSConfig,
	}, nil
}

// sentinelDialler marks the dials of a client with Sentinels that go to the master.
type sentinelDialler struct{ *access }

// DialHook implements [redis.Hook].
func (sentinelDialler) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		return next(ctx, throughSentinels, address)
	}
}
