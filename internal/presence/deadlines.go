package presence

import (
	"container/heap"
	"time"
)

// deadline is a moment at which something of a group is due.
type deadline struct {
	at    int64 // in milliseconds since 1970
	group *group
	user  string
	node  string // whose entry of the user ends
	state bool   // the pause between two states is over
	read  bool   // the hash has to be read again
	audit bool
}

// deadlines is a heap of those to come. Those that no longer apply stay until they are due.
type deadlines []deadline

func (d *deadlines) Len() int           { return len(*d) }
func (d *deadlines) Less(i, j int) bool { return (*d)[i].at < (*d)[j].at }
func (d *deadlines) Swap(i, j int)      { (*d)[i], (*d)[j] = (*d)[j], (*d)[i] }
func (d *deadlines) Push(x any)         { *d = append(*d, x.(deadline)) } //nolint:errcheck,forcetypeassert // only deadlines are pushed
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	*d = (*d)[:last]
	return x
}

// expire does what is due.
func (m *machine) expire(now time.Time) {
	ms := now.UnixMilli()
	for len(m.due) > 0 && m.due[0].at <= ms {
		d, _ := heap.Pop(&m.due).(deadline)
		g := d.group
		if m.groups[g.name] != g {
			continue
		}
		switch {
		case d.read:
			m.wantRead(g)
		case d.audit:
			m.auditing[g] = struct{}{}
			m.auditLater(g, now)
		case d.node != m.node:
			m.expireRemote(g, d)
		case d.state:
			if p := g.own[d.user]; p != nil && p.waits && p.next == d.at {
				state := p.pending
				p.pending, p.waits = "", false
				m.setNow(g, d.user, state, now)
			}
		default:
			if p := g.own[d.user]; p != nil && p.Until == d.at {
				m.remove(g, d.user)
			}
		}
	}
}
