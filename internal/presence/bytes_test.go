package presence

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"orgcast/internal/testkit"
)

// TestBytes: what an organization holds is bounded, and all of it is given back.
func TestBytes(t *testing.T) {
	g, other := testkit.Group(t, "acme", "all"), testkit.Group(t, "globex", "all")
	w := newWorld(t, 2)
	a, b := w.nodes[0], w.nodes[1]
	a.m.bytesPerOrganization = groupBytes + viewBytes + 10*(entryBytes+seatBytes)
	watcher := w.join(a, g, "u0", true)
	w.run(settled)
	var far []*simMember
	for i := range 20 {
		far = append(far, w.join(b, g, fmt.Sprint("far", i), false))
	}
	w.run(4 * Tick)
	if got := watcher.frames[len(watcher.frames)-1]; got != "unavailable" {
		t.Errorf("too many: got %q", watcher.frames)
	}
	var near []*simMember
	for {
		s := &simMember{w: w, user: fmt.Sprint("near", len(near))}
		if a.m.attend(g, s.user, s, false, w.now) != nil {
			break
		}
		near = append(near, s)
	}
	if len(near) > 10 {
		t.Errorf("%d users have room for 10", len(near))
	}
	for _, s := range near[1:] {
		a.m.leave(g, s, Closed, w.now)
	}
	w.join(a, other, "stranger", false) // has room
	for i := range far {
		w.leave(far[i], Closed)
	}
	w.run(2 * auditEvery)
	if got := strings.Join(watcher.frames, ", "); got != "list u0, unavailable, list near0 u0" {
		t.Errorf("when there is room again: got %q", got)
	}
	if o := a.m.orgs[g.Organization()]; o.bytes > a.m.bytesPerOrganization || o.bytes <= 0 {
		t.Errorf("got %d bytes", o.bytes)
	}
}

// TestBytesWhileRedisIsAway: users who have come and gone while nothing could be written, or read, or
// shown, are remembered within the bound of their organization. All of it is given back.
func TestBytesWhileRedisIsAway(t *testing.T) {
	g := testkit.Group(t, "acme", "all")
	pad := strings.Repeat("x", 100)
	for name, test := range map[string]struct {
		watch bool
		early bool // the group was in Redis before
	}{
		"not watched":       {early: true},
		"watched":           {watch: true, early: true},
		"watched, not read": {watch: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			n := w.nodes[0]
			n.m.bytesPerOrganization = 64 << 10
			if !test.early {
				n.cut = true
			}
			ada := w.join(n, g, "ada", test.watch)
			if test.early {
				w.run(settled)
				n.cut = true
			}
			refused := 0
			for i := range 5000 {
				guest := &simMember{w: w, node: n, group: g, user: fmt.Sprint("guest", i, pad)}
				if err := n.m.attend(g, guest.user, guest, false, w.now); err == nil {
					n.m.leave(g, guest, Closed, w.now)
				} else if refused++; !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
				if i%100 == 0 {
					w.run(Tick)
				}
			}
			known := n.m.groups[g]
			names := len(known.dirty)
			if known.view != nil {
				names = max(names, len(known.view.touched))
			}
			if most := n.m.bytesPerOrganization / len(pad); names > most {
				t.Errorf("%d names of users who have gone are remembered, want at most %d", names, most)
			}
			t.Logf("%d names, %d refused", names, refused)
			n.cut = false
			w.run(settled)
			w.join(w.nodes[1], g, "alan", true)
			w.run(settled)
			w.check()
			w.leave(ada, Closed)
			w.run(settled)
			if len(n.m.groups)+len(n.m.orgs) > 0 {
				t.Errorf("left over: %d groups, %d organizations", len(n.m.groups), len(n.m.orgs))
			}
		})
	}
}

// TestUsersOfSlowWatchersAreBounded: while the watchers of a group have to wait for their frames, users
// who come and go meanwhile leave nothing behind.
func TestUsersOfSlowWatchersAreBounded(t *testing.T) {
	g := testkit.Group(t, "acme", "all")
	w := newWorld(t, 1)
	n := w.nodes[0]
	w.join(n, g, "ada", true)
	w.run(settled)
	n.m.orgs[g.Organization()].ready = w.now.Add(time.Hour)
	for i := range 1000 {
		w.leave(w.join(n, g, fmt.Sprint("guest", i), false), Closed)
		w.run(Tick)
	}
	if got := len(n.m.groups[g].view.touched); got > 1 {
		t.Errorf("%d users are remembered, want at most 1", got)
	}
}

// TestManyGroups: a member who joins very many groups, watching or not, is refused at the bound of the
// organization. Another organization is not affected, and all of it is given back.
func TestManyGroups(t *testing.T) {
	for _, watch := range []bool{false, true} {
		w := newWorld(t, 2)
		n := w.nodes[0]
		n.m.bytesPerOrganization = 256 << 10
		var seats []*simMember
		refused := 0
		for i := range 5000 {
			s := &simMember{w: w, node: n, group: testkit.Group(t, "acme", fmt.Sprint("room.", i)), user: "ada", watch: watch}
			if err := n.m.attend(s.group, s.user, s, watch, w.now); err == nil {
				n.members, seats = append(n.members, s), append(seats, s)
			} else if refused++; !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
		}
		if len(n.m.groups) != len(seats) || len(seats) > n.m.bytesPerOrganization/groupBytes || refused == 0 {
			t.Errorf("got %d groups of %d that were joined, and %d refused", len(n.m.groups), len(seats), refused)
		}
		if len(n.m.due) > len(seats) {
			t.Errorf("%d deadlines remember groups that were refused", len(n.m.due)-len(seats))
		}
		org := n.m.orgs[seats[0].group.Organization()]
		if org.bytes > n.m.bytesPerOrganization {
			t.Errorf("got %d bytes, want at most %d", org.bytes, n.m.bytesPerOrganization)
		}
		w.join(n, testkit.Group(t, "globex", "all"), "stranger", true) // has room
		w.run(settled)

		// Many connections in one group have a price, too.
		for _, s := range seats[1:] {
			w.leave(s, Closed)
		}
		w.run(settled)
		tabs := 0
		for ; tabs < 5000; tabs++ {
			s := &simMember{w: w, node: n, group: seats[0].group, user: "ada", watch: watch}
			if n.m.attend(s.group, s.user, s, watch, w.now) != nil {
				break
			}
			n.members = append(n.members, s)
		}
		if tabs == 5000 {
			t.Error("connections of one user in one group are not bounded")
		}
		for len(n.members) > 0 {
			w.leave(n.members[0], Closed)
		}
		w.run(2 * auditEvery)
		if org.bytes != 0 || len(n.m.groups)+len(n.m.orgs) != 0 {
			t.Errorf("after all have left: got %d bytes, %d groups, %d organizations", org.bytes, len(n.m.groups), len(n.m.orgs))
		}
	}
}
