package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"

	"orgcast/internal/channellayer/wire"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

func TestFloatsHaveTheFormOfPython(t *testing.T) {
	for f, want := range map[float64]string{ // as repr writes them
		0: "0.0", math.Copysign(0, -1): "-0.0", 3: "3.0", 1.5: "1.5", 0.1: "0.1", -2.25: "-2.25",
		1e15: "1000000000000000.0", 1e16: "1e+16", 123456789012345680: "1.2345678901234568e+17",
		0.0001: "0.0001", 0.00001: "1e-05", 5e-324: "5e-324", 1e300: "1e+300",
	} {
		b := msgp.AppendMapHeader(nil, 1)
		b = msgp.AppendFloat64(msgp.AppendString(b, "f"), f)
		m, err := (&wire.Decoder{Format: wire.MessagePack}).PubSub(b, limit)
		if got := string(m.Object); err != nil || got != `{"f": `+want+`}` {
			t.Errorf("got %s and %v, want %s", got, err, want)
		}
	}
}

func TestDecoderRefuses(t *testing.T) {
	pack := func(build func(b []byte) []byte) []byte { return build(nil) }
	pairs := func(texts ...string) []byte {
		b := msgp.AppendMapHeader(nil, uint32(len(texts)/2))
		for _, s := range texts {
			b = msgp.AppendString(b, s)
		}
		return b
	}
	deep := func(n int) []byte {
		b := msgp.AppendString(msgp.AppendMapHeader(nil, 1), "a")
		return append(append(b, bytes.Repeat([]byte{0x91}, n)...), 0xc0)
	}
	long := strings.Repeat("x", limit)
	plain, asJSON := &wire.Decoder{Format: wire.MessagePack, RandomPrefix: 12}, &wire.Decoder{Format: wire.JSON, RandomPrefix: 12}
	for name, test := range map[string]struct {
		decoder *wire.Decoder
		payload []byte
		want    error
	}{
		"two types":           {plain, pairs("type", "a", "type", "b"), wire.ErrMalformed},
		"two organizations":   {plain, pairs("organization_id", "a", "organization_id", "b"), wire.ErrMalformed},
		"type only":           {plain, pairs("type", "a"), nil},
		"too deep":            {plain, deep(512), wire.ErrMalformed},
		"deep":                {plain, deep(511), nil},
		"too large":           {plain, pairs("a", long), wire.ErrTooLarge},
		"larger only as JSON": {plain, pairs("a", strings.Repeat("\x00", limit/6)), wire.ErrTooLarge},
		"much too large":      {plain, pairs("a", long+long+long+long), wire.ErrTooLarge},
		"complex": {plain, pack(func(b []byte) []byte {
			return msgp.AppendComplex64(msgp.AppendString(msgp.AppendMapHeader(b, 1), "a"), 1)
		}), wire.ErrNotJSON},
		"JSON: two types":              {asJSON, []byte(`{"type": "a", "t\u0079pe": "b"}`), wire.ErrMalformed},
		"JSON: two objects":            {asJSON, []byte(`{} {}`), wire.ErrMalformed},
		"JSON: not closed":             {asJSON, []byte(`{"a": 1`), wire.ErrMalformed},
		"JSON: not UTF-8":              {asJSON, []byte("{\"a\": \"\xff\"}"), wire.ErrMalformed},
		"JSON: NaN":                    {asJSON, []byte(`{"a": NaN}`), wire.ErrMalformed},
		"JSON: too large":              {asJSON, []byte(`{"a": "` + long + `"}`), wire.ErrTooLarge},
		"JSON: a list":                 {asJSON, []byte(`[1]`), wire.ErrMalformed},
		"JSON where MessagePack is":    {plain, []byte(`{"type": "a"}`), wire.ErrMalformed},
		"MessagePack where JSON is":    {asJSON, pairs("type", "a"), wire.ErrMalformed},
		"JSON: receivers are a number": {asJSON, []byte(`{"__asgi_channel__": 5}`), wire.ErrMalformed},
		"JSON: no receiver":            {asJSON, []byte(`{"__asgi_channel__": [null]}`), wire.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := test.decoder.PubSub(test.payload, limit); !errors.Is(err, test.want) {
				t.Errorf("pub/sub layer: got %.100s and %v, want %v", m.Object, err, test.want)
			}
			m, err := test.decoder.Core(member(string(test.payload)), limit, time.Unix(0, 0))
			if err == nil {
				t.Errorf("core layer: got %.100s, want an error, because it names no receiver", m.Object)
			}
		})
	}
}

func TestReceiversAreTakenOut(t *testing.T) {
	d := &wire.Decoder{Format: wire.JSON, RandomPrefix: 12}
	for text, want := range map[string]string{
		`{"type": "a", "__asgi_channel__": ["x!y"]}`:         `{"type": "a"}`,
		`{"__asgi_channel__": "x!y", "type": "a"}`:           `{"type": "a"}`,
		`{"a":1 , "__asgi_channel__":["x!y"],"type" : "a" }`: `{"a":1, "type" : "a"}`,
		`{"__asgi_channel__": ["x!y"]}`:                      `{}`,
	} {
		m, err := d.Core(member(text), limit, time.Time{})
		if err != nil || string(m.Object) != want || len(m.Receivers) != 1 || m.Receivers[0] != "x!y" {
			t.Errorf("%s: got %s for %q and %v, want %s", text, m.Object, m.Receivers, err, want)
		}
	}
}

// seeds returns the payloads of the vectors.
func seeds(f *testing.F) (pubsub, core [][]byte) {
	f.Helper()
	var p pubsubVectors
	readVectors(f, "channels-pubsub.json", &p)
	for _, v := range p.Cases {
		pubsub = append(pubsub, v.Payload)
	}
	var c coreVectors
	readVectors(f, "channels-core.json", &c)
	for _, v := range c.Cases {
		core = append(core, v.Member)
		for _, state := range v.State {
			for _, m := range state.Members {
				core = append(core, m.Member)
			}
		}
	}
	return pubsub, core
}

// mustBeEvent checks what every message that is read promises.
func mustBeEvent(t *testing.T, m wire.Message, limit int) {
	t.Helper()
	if len(m.Object) > limit {
		t.Fatalf("got %d bytes, want at most %d", len(m.Object), limit)
	}
	if !json.Valid(m.Object) || m.Object[0] != '{' {
		t.Fatalf("not an object: %q", m.Object)
	}
	org, err := orgctx.ParseID(m.Organization)
	if err != nil {
		return
	}
	g, err := event.NewGroup(org, "g")
	if err != nil {
		t.Fatal(err)
	}
	// What the hub gets is decoded once more, and must name the same organization.
	if e, err := event.DecodeObject(g, event.Head{}, string(m.Object), limit, time.Time{}); err == nil && e.Type() != m.Type {
		t.Fatalf("got type %q and %q", m.Type, e.Type())
	} else if errors.Is(err, event.ErrForeign) || errors.Is(err, event.ErrNoOrganization) || errors.Is(err, event.ErrDuplicateField) {
		t.Fatalf("%q: %v", m.Object, err)
	}
}

func FuzzPubSub(f *testing.F) {
	payloads, _ := seeds(f)
	for _, p := range payloads {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, format := range []wire.Format{wire.MessagePack, wire.JSON} {
			if m, err := (&wire.Decoder{Format: format}).PubSub(payload, 1024); err == nil {
				mustBeEvent(t, m, 1024)
			} else if wire.Reason(err) == "" {
				t.Fatalf("error without a reason: %v", err)
			}
		}
	})
}

func FuzzCore(f *testing.F) {
	_, members := seeds(f)
	for _, m := range members {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, format := range []wire.Format{wire.MessagePack, wire.JSON} {
			m, err := (&wire.Decoder{Format: format, RandomPrefix: 12}).Core(payload, 1024, time.Unix(1767225601, 0))
			if err != nil {
				continue
			}
			mustBeEvent(t, m, 1024)
			if len(m.Receivers) == 0 || len(m.Receivers) > wire.MaxReceivers {
				t.Fatalf("got %d receivers", len(m.Receivers))
			}
		}
	})
}

func FuzzToken(f *testing.F) {
	payloads, members := seeds(f)
	for _, p := range payloads {
		f.Add(p)
	}
	for _, m := range members {
		f.Add(bytes.TrimPrefix(m, m[:min(12, len(m))]))
	}
	keys, err := wire.NewKeys([]byte("test-only-channel-key-1"), []byte("test-only-channel-key-2"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token []byte) {
		m, err := (&wire.Decoder{Format: wire.MessagePack, Keys: keys}).PubSub(token, 1024)
		if err == nil {
			mustBeEvent(t, m, 1024)
		}
		// No token has a second spelling, and none is valid with a byte less.
		for _, other := range [][]byte{token[:max(len(token)-1, 0)], append([]byte("g"), token...)} {
			if _, again := (&wire.Decoder{Format: wire.MessagePack, Keys: keys}).PubSub(other, 1024); err == nil && again == nil {
				t.Fatalf("%q is accepted like %q", other, token)
			}
		}
	})
}

func FuzzChannel(f *testing.F) {
	var names nameVectors
	readVectors(f, "channels-names.json", &names)
	for _, n := range names.Cases {
		f.Add(n.Name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		queue, tag, ok := wire.CutChannel(name)
		if ok && queue+tag != name {
			t.Fatalf("%q: got %q and %q", name, queue, tag)
		}
		if wire.ValidGroup(name) && !event.ValidGroupName(name) {
			t.Fatalf("%q names a group of Django that the gateway cannot have", name)
		}
	})
}
