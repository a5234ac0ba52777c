package presence

import (
	"testing"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

// FuzzDecodeDiff: what arrives on a channel is refused, or about users and states that the node
// itself could have written for this group.
func FuzzDecodeDiff(f *testing.F) {
	for _, text := range []string{
		`{"organization_id":"acme","node":"n1","seq":2,"prev":1,"set":{"ada":{"n":1,"since":5,"state":{"a":1},"at":6}},"gone":["alan"]}`,
		`{"organization_id":"globex","node":"n1","seq":2,"prev":1}`, `{"organization_id":"acme","node":"n1","seq":1,"prev":1}`,
		`{"organization_id":"acme","node":"n1","seq":1,"set":{"a b":{"n":1}}}`, `{"organization_id":"acme","node":"n1","seq":1,"set":{"a":{"n":-1}}}`,
		`{"organization_id":"acme","node":"n1","seq":1,"set":{"a":{"n":1,"state":[1]}}}`, `{"organization_id":"acme","node":"n1","seq":1,"last":true}`, ``, `null`,
	} {
		f.Add(text)
	}
	g := testkit.Group(f, "acme", "all")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := decodeDiff(g, []byte(text))
		if err != nil {
			return
		}
		if d.Organization != "acme" || !orgctx.ValidID(d.Node) || d.Prev >= d.Seq {
			t.Errorf("got %+v", d)
		}
		for user, e := range d.Set {
			checkEntry(t, user, e)
		}
	})
}

// FuzzDecodeHash: fields that are not valid count for nobody.
func FuzzDecodeHash(f *testing.F) {
	f.Add("n1:ada", `{"n":1,"since":5,"state":{"a":1},"at":6}`)
	f.Add("n1:auth0%7C1", `{"n":0,"since":5,"until":7}`)
	f.Add("n1:", "12")
	f.Add("n1:ada", `{"n":0}`)
	f.Add("n1:ada", `{"n":1,"state":"x"}`)
	f.Add(":", "")
	f.Fuzz(func(t *testing.T, field, value string) {
		for node, s := range decodeHash(map[string]string{field: value}) {
			for user, e := range s.users {
				if keyspace.PresenceField(node, user) != field {
					t.Errorf("%q is about %q at %q", field, user, node)
				}
				checkEntry(t, user, e)
			}
		}
	})
}

// checkEntry sees that an entry could be shown.
func checkEntry(t *testing.T, user string, e entry) {
	t.Helper()
	if !orgctx.ValidUserID(user) || e.Connections < 0 || e.Connections == 0 && !e.lingers() {
		t.Errorf("%q: got %+v", user, e)
	}
	if len(e.State) > 0 {
		if text, err := compactState(e.State); err != nil || len(text) > MaxState {
			t.Errorf("%q: state %q, %v", user, e.State, err)
		}
	}
}
