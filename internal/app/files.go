package app

import (
	"fmt"
	"time"

	"orgcast/internal/foreign"
	"orgcast/internal/redisclient"
	"orgcast/internal/rlimit"
	"orgcast/internal/session"
)

const (
	// fewestFiles is the lowest limit with which a node can work.
	fewestFiles = 64
	// ownFiles are for everything except the public listener: Redis, the private listener, reloaded
	// files and the runtime. A node needs baseFiles of them without any Redis client.
	ownFiles, baseFiles = 128, 64
	// handshakeFiles are for sockets of the public listener that are not connections yet. With
	// them, even a full node can tell new clients that it is full.
	handshakeFiles = 128
	// plentyOfFiles is the limit from which no share has to be reduced.
	plentyOfFiles = 512
)

// fileShares divides the files that a process may open. Sockets of strangers never use the node's
// own share, so health checks and Redis keep working however many strangers there are.
type fileShares struct {
	total       int // 0: no limit, or unknown
	own         int
	connections int // maximum
}

// shareFiles divides total files for a node whose Redis clients open at most redis files.
func shareFiles(total, redis int) fileShares {
	if total <= 0 {
		return fileShares{}
	}
	own := min(max(ownFiles, baseFiles+redis), total/2)
	return fileShares{total: total, own: own, connections: max(total-own-min(handshakeFiles, total/4), 1)}
}

// sockets is how many sockets the public listener may have, including connections. 0 means any
// number.
func (f fileShares) sockets() int { return f.total - f.own }

// files divides the open files of this process.
func (o *Options) files() fileShares {
	servers := 1
	if o.secondServer() {
		servers++
	}
	if o.ownDjangoCache() {
		servers++
	}
	if len(o.Redis.Cluster)+len(o.State.Cluster) > 0 {
		servers += 3
	}
	return shareFiles(rlimit.OpenFiles(), servers*redisclient.MaxConnections())
}

// checkFiles returns an error if the options cannot work with these shares.
func (o *Options) checkFiles(f fileShares) error {
	switch {
	case f.total == 0:
		return nil
	case f.total < fewestFiles:
		return fmt.Errorf("open files: the limit of %d is too low: it must be at least %d (ulimit -n, LimitNOFILE=, nofile)", f.total, fewestFiles)
	case o.MaxConnections > f.connections:
		return fmt.Errorf("--max-connections: %d is too high: a limit of %d open files allows %d connections: raise that limit (ulimit -n, LimitNOFILE=, nofile) or lower the setting",
			o.MaxConnections, f.total, f.connections)
	}
	return nil
}

// Warnings returns warnings about settings that work but are probably not intended.
func (o *Options) Warnings() (list []string) {
	f := o.files()
	if f.total > 0 && f.total < plentyOfFiles {
		list = append(list, fmt.Sprintf("few open files: a limit of %d allows %d connections; raise it (ulimit -n, LimitNOFILE=, nofile)", f.total, f.connections))
	}
	if o.HasStore(StoreHTTP) && o.LeaseDeadline < webDeadline {
		list = append(list, fmt.Sprintf("--lease-deadline=%s with --session-store=http: when the web application does not answer for longer than that, as during a deployment, every page is disconnected; %s is a good value", o.LeaseDeadline, webDeadline))
	}
	for i, kind := range o.SessionStores {
		name := o.cookieName(i)
		isDjango := kind == StoreDjangoCache || kind == StoreDjangoSigned
		if kind == StoreJWT {
			list = append(list, o.jwtWarnings()...)
			continue
		}
		if isDjango {
			list = append(list, djangoWarning(kind))
		}
		if isDjango && name == session.DefaultName {
			list = append(list, fmt.Sprintf("--session-cookie=%s with --session-store=%s: it must be the site's SESSION_COOKIE_NAME, which is usually sessionid", name, kind))
		}
		if usual := foreign.Named(name); usual != "" && kind != StoreHTTP && (!isDjango || usual != foreign.Django) {
			list = append(list, fmt.Sprintf("--session-cookie=%s with --session-store=%s: cookies of this name are usually %s: %s", name, kind, usual.Title(), usual.Advice()))
		}
	}
	return list
}

// webDeadline is how long a web application may reasonably be down while it is deployed or
// restarted.
const webDeadline = 120 * time.Second
