package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/channellayer/wire"
)

// limit is larger than every vector.
const limit = 64 << 10

// secret is an encryption key of the vectors.
type secret struct {
	UTF8 string `json:"utf8"`
	B64  []byte `json:"b64"`
}

type config struct {
	Prefix       *string  `json:"prefix"`
	Keys         []string `json:"encryption_keys"`
	Serializer   string   `json:"serializer"`
	RandomPrefix *int     `json:"random_prefix_length"`
}

// expectation is what a reader is expected to say. Accept is true, false or "either".
type expectation struct {
	Accept    any             `json:"accept"`
	Published *bool           `json:"published"`
	Message   json.RawMessage `json:"message"`
	Handler   string          `json:"handler"`
}

func readVectors(tb testing.TB, name string, v any) {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		tb.Fatal(err)
	}
}

// decoder returns a decoder for a configuration. With names, these keys are used instead of the
// configuration's.
func decoder(tb testing.TB, secrets map[string]secret, c config, names []string) *wire.Decoder {
	tb.Helper()
	var raw [][]byte
	for _, name := range names {
		s, ok := secrets[name]
		if !ok {
			tb.Fatalf("no key %s", name)
		}
		if s.B64 == nil {
			s.B64 = []byte(s.UTF8)
		}
		raw = append(raw, s.B64)
	}
	keys, err := wire.NewKeys(raw...)
	if err != nil {
		tb.Fatal(err)
	}
	d := &wire.Decoder{Format: wire.MessagePack, Keys: keys, RandomPrefix: 12}
	if c.Serializer != "" {
		d.Format = wire.Format(c.Serializer)
	}
	if c.RandomPrefix != nil {
		d.RandomPrefix = *c.RandomPrefix
	}
	return d
}

type pubsubVector struct {
	ID       string          `json:"id"`
	Config   config          `json:"config"`
	Group    string          `json:"group"`
	Channel  string          `json:"channel"`
	Event    json.RawMessage `json:"event"`
	Redis    string          `json:"redis_channel"`
	Payload  []byte          `json:"payload_b64"`
	ReadKeys *[]string       `json:"read_with_keys"`
	Expect   expectation     `json:"expect"`
}

type pubsubVectors struct {
	Secrets map[string]secret `json:"encryption_keys"`
	Cases   []pubsubVector    `json:"cases"`
}

func (v pubsubVector) decoder(tb testing.TB, secrets map[string]secret) *wire.Decoder {
	tb.Helper()
	names := v.Config.Keys
	if v.ReadKeys != nil {
		names = *v.ReadKeys
	}
	return decoder(tb, secrets, v.Config, names)
}

func TestPubSubVectors(t *testing.T) {
	var vectors pubsubVectors
	readVectors(t, "channels-pubsub.json", &vectors)
	if len(vectors.Cases) < 60 {
		t.Fatalf("got %d cases, want all", len(vectors.Cases))
	}
	for _, v := range vectors.Cases {
		t.Run(v.ID, func(t *testing.T) {
			if p := v.Expect.Published; p != nil && !*p {
				if v.Payload != nil {
					t.Fatal("has a payload although the sender failed")
				}
				return
			}
			if v.Group != "" {
				if got := wire.PubSubChannel(*v.Config.Prefix, v.Group); got != v.Redis {
					t.Errorf("Redis channel: got %q, want %q", got, v.Redis)
				}
			}
			m, err := v.decoder(t, vectors.Secrets).PubSub(v.Payload, limit)
			mustAgree(t, m, err, v.Expect, v.Event)
			if err == nil && v.Expect.Handler != "" && strings.ReplaceAll(m.Type, ".", "_") != v.Expect.Handler {
				t.Errorf("got type %q, want the one of %s", m.Type, v.Expect.Handler)
			}
		})
	}
}

type queueMember struct {
	Member  []byte          `json:"member_b64"`
	Name    string          `json:"member"`
	Message json.RawMessage `json:"message"`
}

type redisKey struct {
	Key     string        `json:"key"`
	Members []queueMember `json:"members"`
}

type coreVector struct {
	ID     string      `json:"id"`
	Config config      `json:"config"`
	Clock  float64     `json:"clock"`
	State  []redisKey  `json:"redis_state"`
	Member []byte      `json:"member_b64"`
	Now    int64       `json:"now"`
	Expect expectation `json:"expect"`
	Steps  []struct {
		Op      string `json:"op"`
		Group   string `json:"group"`
		Channel string `json:"channel"`
	} `json:"steps"`
}

type coreVectors struct {
	Secrets map[string]secret `json:"encryption_keys"`
	Cases   []coreVector      `json:"cases"`
}

func (v coreVector) decoder(tb testing.TB, secrets map[string]secret) *wire.Decoder {
	tb.Helper()
	return decoder(tb, secrets, v.Config, v.Config.Keys)
}

func TestCoreVectors(t *testing.T) {
	var vectors coreVectors
	readVectors(t, "channels-core.json", &vectors)
	if len(vectors.Cases) < 43 {
		t.Fatalf("got %d cases, want all", len(vectors.Cases))
	}
	for _, v := range vectors.Cases {
		t.Run(v.ID, func(t *testing.T) {
			d := v.decoder(t, vectors.Secrets)
			if v.State == nil {
				m, err := d.Core(v.Member, limit, time.Unix(v.Now, 0))
				mustAgree(t, m, err, v.Expect, nil)
				return
			}
			keys := namesOf(t, v)
			for _, state := range v.State {
				if !slices.Contains(keys, strings.TrimSuffix(state.Key, "$inflight")) {
					t.Errorf("Redis key: got one of %q, want %q", keys, state.Key)
				}
				for _, member := range state.Members {
					if member.Message == nil {
						mustName(t, member.Name)
						continue
					}
					m, err := d.Core(member.Member, limit, time.Unix(int64(v.Clock), 0))
					want := expectation{Accept: true}
					if !bytes.Contains(member.Message, []byte("__asgi_channel__")) {
						want.Accept = "either" // for workers, which are not in a group
					}
					mustAgree(t, m, err, want, member.Message)
				}
			}
		})
	}
}

// mustName checks that a member of a group is a channel.
func mustName(t *testing.T, name string) {
	t.Helper()
	if _, _, ok := wire.CutChannel(name); !ok {
		t.Errorf("%q is not accepted as a channel", name)
	}
}

// namesOf returns the keys that the steps of a case use.
func namesOf(t *testing.T, v coreVector) (keys []string) {
	t.Helper()
	prefix := "asgi"
	if v.Config.Prefix != nil {
		prefix = *v.Config.Prefix
	}
	for _, s := range v.Steps {
		if s.Group != "" {
			keys = append(keys, wire.GroupKey(prefix, s.Group))
		}
		if s.Channel != "" {
			queue, _, ok := wire.CutChannel(s.Channel)
			if !ok {
				t.Errorf("%q is not accepted as a channel", s.Channel)
			}
			keys = append(keys, wire.QueueKey(prefix, queue))
		}
	}
	return keys
}

// mustAgree compares a result with an expectation. A message that is accepted but cannot be written
// as JSON must say so.
func mustAgree(t *testing.T, m wire.Message, err error, e expectation, sent json.RawMessage) {
	t.Helper()
	want := e.Message
	if want == nil {
		want = sent
	}
	switch {
	case e.Accept == false:
		if err == nil {
			t.Errorf("got %s, want an error", m.Object)
		} else if wire.Reason(err) == "" {
			t.Errorf("error without a reason: %v", err)
		}
		return
	case e.Accept == "either" && err != nil:
		return
	case notJSON(want):
		if wire.Reason(err) != "not_json" {
			t.Errorf("got %v, want %v", err, wire.ErrNotJSON)
		}
		return
	case err != nil:
		t.Errorf("got %v, want %s", err, want)
		return
	}
	wanted := decode(t, want)
	if object, ok := wanted.(map[string]any); ok {
		mustReach(t, m.Receivers, object["__asgi_channel__"])
		delete(object, "__asgi_channel__")
	}
	if diff := cmp.Diff(wanted, decode(t, m.Object)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func mustReach(t *testing.T, got []string, want any) {
	t.Helper()
	var names []string
	switch v := want.(type) {
	case string:
		names = []string{v}
	case []any:
		for _, name := range v {
			names = append(names, fmt.Sprint(name))
		}
	}
	if !slices.Equal(got, names) {
		t.Errorf("receivers: got %q, want %q", got, names)
	}
}

// notJSON reports whether a message of the vectors has values that JSON cannot hold.
func notJSON(message []byte) bool {
	for _, mark := range []string{`"$bytes"`, `"$float"`, `"$map"`, `"$ext"`, `"$timestamp"`} {
		if bytes.Contains(message, []byte(mark)) {
			return true
		}
	}
	return false
}

// decode decodes JSON. Integers keep all digits; other numbers become floats.
func decode(t *testing.T, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return numbers(t, v)
}

func numbers(t *testing.T, v any) any {
	t.Helper()
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(string(v), ".e") {
			return v
		}
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil {
			t.Fatal(err)
		}
		return f
	case []any:
		for i := range v {
			v[i] = numbers(t, v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = numbers(t, v[name])
		}
	}
	return v
}

type nameVectors struct {
	Cases []struct {
		ID      string `json:"id"`
		Name    string `json:"name"`
		Group   *bool  `json:"group_ok"`
		Channel *bool  `json:"channel_ok"`
		Note    string `json:"note"`
		// Value belongs to the host with the number Hosts[n] of n hosts.
		Value string         `json:"value"`
		Hosts map[string]int `json:"host_index"`
	} `json:"cases"`
}

func TestNameVectors(t *testing.T) {
	var vectors nameVectors
	readVectors(t, "channels-names.json", &vectors)
	tried := 0
	for _, v := range vectors.Cases {
		accepted, want := wire.ValidGroup(v.Name), v.Group
		if v.Channel != nil {
			_, _, accepted = wire.CutChannel(v.Name)
			want = v.Channel
		}
		tried++
		for text, want := range v.Hosts {
			servers, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := wire.Host(v.Value, servers); got != want {
				t.Errorf("%s: got host %d of %d, want %d", v.ID, got, servers, want)
			}
		}
		if want == nil {
			if v.Hosts == nil {
				t.Errorf("%s: nothing is expected", v.ID)
			}
			continue
		}
		if accepted != *want && (accepted || !strings.Contains(v.Note, "may be stricter")) {
			t.Errorf("%s: %q: got %t, want %t", v.ID, v.Name, accepted, *want)
		}
	}
	if tried < 49 {
		t.Errorf("got %d cases, want all", tried)
	}
}

// TestFormOfPython compares the JSON with what json.dumps writes.
func TestFormOfPython(t *testing.T) {
	var vectors pubsubVectors
	readVectors(t, "channels-pubsub.json", &vectors)
	want := map[string]string{
		"ps-doc-shape": `{"type": "data_update", "status": "complete", "result": {"rows": 3, "label": "done"}, "organization_id": 7}`,
		"ps-unicode":   `{"type": "data_update", "status": "\u00fc\u00f1\u00ef \u7d44\u7e54 \ud83d\ude80", "result": {"cl\u00e9": "\u0000\u2028\"\\"}, "organization_id": 7}`,
		"ps-none-bool": `{"type": "data_update", "status": "complete", "result": [null, true, false], "organization_id": 7}`,
		"ps-json":      `{"type": "data_update", "status": "complete", "result": {"rows": 3, "label": "done"}, "organization_id": 7}`,
	}
	for _, v := range vectors.Cases {
		if text, ok := want[v.ID]; ok {
			m, err := v.decoder(t, vectors.Secrets).PubSub(v.Payload, limit)
			if err != nil || string(m.Object) != text {
				t.Errorf("%s: got %s and %v, want %s", v.ID, m.Object, err, text)
			}
			delete(want, v.ID)
		}
	}
	if !reflect.DeepEqual(want, map[string]string{}) {
		t.Errorf("no such cases: %v", want)
	}
}

// member puts random bytes before a payload, as the core layer does.
func member(payload string) []byte { return append([]byte("0123456789ab"), payload...) }
