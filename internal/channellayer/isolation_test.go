package channellayer_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"
	"pgregory.net/rapid"

	"orgcast/internal/channellayer"
	"orgcast/internal/channellayer/wire"
	"orgcast/internal/event"
)

// guard is a Sink that knows who wants what.
type guard struct {
	t      *rapid.T
	wanted map[event.Group]int
	got    int
}

// Deliver implements the Sink.
func (g *guard) Deliver(e *event.Event) {
	g.got++
	var named map[string]any // a struct would match names in any case
	if err := json.Unmarshal(e.Payload(), &named); err != nil {
		g.t.Fatalf("%s: %v", e.Payload(), err)
	}
	text, ok := named["organization_id"].(string)
	if n, isNumber := named["organization_id"].(float64); isNumber && n == 7 {
		text, ok = "7", true
	}
	if !ok || text != e.Group().Organization().String() || e.Organization() != e.Group().Organization() {
		g.t.Fatalf("%s got %s", e.Group(), e.Payload())
	}
	if g.wanted[e.Group()] == 0 {
		g.t.Fatalf("%s gets an event and does not want any", e.Group())
	}
}

// Gap implements the Sink.
func (g *guard) Gap(of event.Group) {
	if g.wanted[of] == 0 {
		g.t.Fatalf("%s gets a gap and does not want any", of)
	}
}

// TestNothingCrossesOrganizations: organizations have groups with equal names, and senders name
// organizations in every form, twice, and not at all.
func TestNothingCrossesOrganizations(t *testing.T) {
	total := 0
	rapid.Check(t, func(t *rapid.T) {
		format := rapid.SampledFrom([]wire.Format{wire.MessagePack, wire.JSON}).Draw(t, "format")
		o := options(channellayer.PubSub)
		o.Decoder = &wire.Decoder{Format: format}
		sink := &guard{t: t, wanted: make(map[event.Group]int)}
		i := channellayer.NewIntake(o, sink)
		orgs, names := []string{"acme", "globex", "7"}, []string{"a", "b"}
		drawGroup := func(t *rapid.T) event.Group {
			return group(rapid.SampledFrom(orgs).Draw(t, "organization"), rapid.SampledFrom(names).Draw(t, "name"))
		}
		t.Repeat(map[string]func(*rapid.T){
			"subscribe": func(t *rapid.T) {
				g := drawGroup(t)
				sink.wanted[g]++
				i.Subscribe(g)
			},
			"unsubscribe": func(t *rapid.T) {
				g := drawGroup(t)
				if i.Unsubscribe(g); sink.wanted[g] > 0 {
					sink.wanted[g]--
				}
			},
			"send": func(t *rapid.T) {
				field := rapid.SampledFrom([]string{"organization_id", "organization_id", "organization_ID", "org"})
				value := rapid.SampledFrom([]any{"acme", "globex", "7", int64(7), 7.0, nil, true, "ACME", "acme ", "initech"})
				pairs := []any{"type", "note"}
				for range rapid.IntRange(0, 2).Draw(t, "fields") {
					pairs = append(pairs, field.Draw(t, "field"), value.Draw(t, "value"))
				}
				i.PubSub(rapid.SampledFrom(names).Draw(t, "name"), encode(t, format, pairs), time.Now())
			},
		})
		total += sink.got
	})
	if total == 0 {
		t.Error("nothing was delivered, so nothing was tested")
	}
}

func encode(t *rapid.T, format wire.Format, pairs []any) []byte {
	if format == wire.MessagePack {
		b := msgp.AppendMapHeader(nil, uint32(len(pairs)/2))
		for _, v := range pairs {
			var err error
			if b, err = msgp.AppendIntf(b, v); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	b := []byte("{")
	for i, v := range pairs {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			b = append(b, ",:"[i%2])
		}
		b = append(b, text...)
	}
	return append(b, '}')
}
