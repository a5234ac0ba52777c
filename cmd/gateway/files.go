package main

import (
	"fmt"
	"runtime"
)

const (
	// fewestFiles is what a node needs to be of any use.
	fewestFiles = 64
	// ownFiles are for everything but the public listener: Redis, the private listener, files that are
	// read again, the runtime. baseFiles of them are what a node needs without any client of Redis.
	ownFiles, baseFiles = 128, 64
	// handshakeFiles are for sockets of the public listener that are no connections yet, when there is
	// no room for more connections: whoever comes then is still told so.
	handshakeFiles = 128
	// redisPerProcessor is how many connections a client of Redis opens at most, to each server.
	redisPerProcessor = 10
	// plentyOfFiles is where all shares are whole.
	plentyOfFiles = 512
)

// fileShares says for what the files are that a process may have open. Health is told, and Redis
// reached, however many sockets strangers open: these never get at the node's own share.
type fileShares struct {
	total       int // 0: there is no limit, or none that can be told
	own         int
	connections int // the most that there can be
}

// shareFiles shares out so many files, for a node whose clients of Redis open so many at most.
func shareFiles(total, redis int) fileShares {
	if total <= 0 {
		return fileShares{}
	}
	own := min(max(ownFiles, baseFiles+redis), total/2)
	return fileShares{total: total, own: own, connections: max(total-own-min(handshakeFiles, total/4), 1)}
}

// sockets is how many the public listener may hold, connections among them; 0 is any number.
func (f fileShares) sockets() int { return f.total - f.own }

// files shares out those of this process.
func (s *settings) files() fileShares {
	servers := 1
	if s.stateSettings() != &s.redis {
		servers++
	}
	if len(s.redis.cluster)+len(s.state.cluster) > 0 {
		servers += 3
	}
	return shareFiles(openFiles(), servers*redisPerProcessor*runtime.GOMAXPROCS(0))
}

// redisPool bounds a client's own choice of how many connections it opens, which it makes by the
// processors alone, by the files that there are.
func redisPool() int {
	all := redisPerProcessor * runtime.GOMAXPROCS(0)
	if f := openFiles(); f > 0 && f < plentyOfFiles {
		return min(all, max(f/16, 4))
	}
	return all
}

// checkFiles says what cannot work with so many files.
func (s *settings) checkFiles(f fileShares) error {
	switch {
	case f.total == 0:
		return nil
	case f.total < fewestFiles:
		return fmt.Errorf("open files: the limit of %d is too low: at least %d are needed (ulimit -n, LimitNOFILE=, nofile)", f.total, fewestFiles)
	case s.maxConnections > f.connections:
		return fmt.Errorf("--max-connections: %d is more than the limit of %d open files allows, which is %d: raise that limit (ulimit -n, LimitNOFILE=, nofile) or lower the setting",
			s.maxConnections, f.total, f.connections)
	}
	return nil
}

// warnings says what works and is hardly what somebody wants.
func (s *settings) warnings(f fileShares) (list []string) {
	if f.total > 0 && f.total < plentyOfFiles {
		list = append(list, fmt.Sprintf("few open files: a limit of %d allows %d connections; raise it (ulimit -n, LimitNOFILE=, nofile)", f.total, f.connections))
	}
	return list
}
