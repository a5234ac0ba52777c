package pickle_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/pickle"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type vector struct {
	ID         string `json:"id"`
	Value      []byte `json:"redis_value_b64"`
	Format     string `json:"format"`
	Compressor string `json:"compressor"`
	Expect     struct {
		Accept  any             `json:"accept"` // a bool, or "either"
		Session json.RawMessage `json:"session"`
	} `json:"expect"`
}

// vectors are the pickles that Django wrote, and hostile ones. Package session has the file.
func vectors(tb testing.TB) (list []vector) {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("..", "session", "testdata", "django-cache-sessions.json"))
	if err != nil {
		tb.Fatal(err)
	}
	var all struct{ Cases []vector }
	if err := json.Unmarshal(text, &all); err != nil {
		tb.Fatal(err)
	}
	for _, c := range all.Cases {
		if c.Format == "pickle" && c.Compressor == "" {
			list = append(list, c)
		}
	}
	if len(list) < 40 {
		tb.Fatalf("got %d pickles, want at least 40", len(list))
	}
	return list
}

func TestVectors(t *testing.T) {
	for _, c := range vectors(t) {
		t.Run(c.ID, func(t *testing.T) {
			got, err := pickle.ReadDict(c.Value)
			if strings.HasPrefix(c.ID, "ca-hostile-") && err == nil && c.Expect.Accept == false {
				// It calls something. That is never done; the tests of package session see that nobody is logged in.
				if called, ok := got.Items["x"].(*pickle.Object); !ok || called.Class != "" {
					t.Fatalf("got %v, want an object in the place of what is called", got.Items)
				}
				return
			}
			if c.Expect.Accept != "either" && (err == nil) != c.Expect.Accept {
				t.Fatalf("got %v, want accepted %v", err, c.Expect.Accept)
			}
			if err != nil || len(c.Expect.Session) == 0 {
				return
			}
			if diff := cmp.Diff(string(canonical(t, c.Expect.Session)), plain(got, 0)); diff != "" {
				t.Errorf("session (-want +got):\n%s", diff)
			}
		})
	}
}

// canonical spells the JSON of the vectors as plain does.
func canonical(t *testing.T, text []byte) []byte {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(spelled(v))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// spelled replaces what JSON can write in several ways, and objects other than UUIDs.
func spelled(v any) any {
	switch v := v.(type) {
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			f, _ := v.Float64()
			return fmt.Sprintf("float %v", f)
		}
	case map[string]any:
		if special, ok := v["$float"]; ok {
			return fmt.Sprintf("float %s", strings.NewReplacer("inf", "+Inf", "-inf", "-Inf", "nan", "NaN").Replace(special.(string)))
		}
		if class, ok := v["$object"]; ok {
			if class == "uuid.UUID" {
				return v["text"]
			}
			return "object"
		}
		for k := range v {
			v[k] = spelled(v[k])
		}
	case []any:
		for i := range v {
			v[i] = spelled(v[i])
		}
	}
	return v
}

// plain returns values as JSON, as the vectors spell them.
func plain(v any, depth int) string {
	text, err := json.Marshal(simple(v, depth))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func simple(v any, depth int) any {
	if depth > 50 {
		return "too deep"
	}
	switch v := v.(type) {
	case *pickle.Dict:
		out := make(map[string]any)
		for k, item := range v.Items {
			out[k] = simple(item, depth+1)
		}
		return out
	case *pickle.List:
		out := make([]any, 0)
		for _, item := range v.Items {
			out = append(out, simple(item, depth+1))
		}
		return out
	case *big.Int:
		return json.Number(v.String())
	case float64:
		return fmt.Sprintf("float %v", v)
	case []byte:
		return map[string]any{"$bytes": base64.StdEncoding.EncodeToString(v)}
	case *pickle.Object:
		if text, ok := v.Text(); ok {
			return text
		}
		return "object"
	}
	return v
}

// dict is a pickle of protocol 4 of {"k": …} with a value of these instructions.
func dict(value string) []byte { return []byte("\x80\x04}\x8c\x01k" + value + "s.") }

func TestValues(t *testing.T) {
	for name, test := range map[string]struct {
		value string
		want  any
	}{
		"an integer of no bytes":          {"\x8a\x00", int64(0)},
		"255":                             {"\x8a\x02\xff\x00", int64(255)},
		"-1":                              {"\x8a\x01\xff", int64(-1)},
		"-32768":                          {"\x8b\x02\x00\x00\x00\x00\x80", int64(-32768)},
		"the largest of 64 bits":          {"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", int64(math.MaxInt64)},
		"one more":                        {"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00", new(big.Int).Add(big.NewInt(math.MaxInt64), big.NewInt(1))},
		"a class":                         {"cos\nsystem\n", "class os.system"},
		"a call":                          {"cos\nsystem\n\x8c\x02id\x85R", "object "},
		"an object with a state":          {"\x8c\x08datetime\x8c\x04date\x93)\x81}b", "object datetime.date"},
		"an object with named arguments":  {"ca\nb\n)}\x92", "object a.b"},
		"a set":                           {"\x8f(K\x01K\x02\x90", "object builtins.set"},
		"a frozen set":                    {"(K\x01\x91", "object builtins.frozenset"},
		"a dictionary of a class":         {"ccollections\nOrderedDict\n)R(K\x01K\x02u", "object "},
		"a list of a class":               {"ccollections\ndeque\n)R(K\x01e", "object "},
		"a UUID":                          {"cuuid\nUUID\n)\x81}\x8c\x03intK\x01sb", "uuid 00000000-0000-0000-0000-000000000001"},
		"a UUID with a negative number":   {"cuuid\nUUID\n)\x81}\x8c\x03intJ\xff\xff\xff\xffsb", "object uuid.UUID"},
		"a UUID whose number is too long": {"cuuid\nUUID\n)\x81}\x8c\x03int\x8a\x12" + strings.Repeat("\x7f", 18) + "sb", "object uuid.UUID"},
		"a UUID whose number is text":     {"cuuid\nUUID\n)\x81}\x8c\x03int\x8c\x011sb", "object uuid.UUID"},
		"a UUID that is called":           {"cuuid\nUUID\n\x8c\x011\x85R}\x8c\x03intK\x01sb", "object "},
		"a class of the same name":        {"cevil\nUUID\n)\x81}\x8c\x03intK\x01sb", "object evil.UUID"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := pickle.ReadDict(dict(test.value))
			if err != nil {
				t.Fatal(err)
			}
			v := got.Items["k"]
			if o, ok := v.(*pickle.Object); ok {
				v = "object " + o.Class
				if o.IsClass() {
					v = "class " + o.Class
				}
				if text, ok := o.Text(); ok {
					v = "uuid " + text
				}
			}
			if diff := cmp.Diff(test.want, v, cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })); diff != "" {
				t.Errorf("value (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	nested := func(n int) []byte { return dict(strings.Repeat("]", n) + strings.Repeat("a", n-1)) }
	if _, err := pickle.ReadDict(nested(pickle.MaxDepth - 1)); err != nil {
		t.Errorf("nested as deep as allowed: got %v", err)
	}
	for name, test := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":                       {nil, pickle.ErrUnsupported},
		"protocol 0":                    {[]byte("(dp0\n."), pickle.ErrUnsupported},
		"protocol 6":                    {[]byte("\x80\x06}."), pickle.ErrUnsupported},
		"JSON":                          {[]byte(`{"a":1}`), pickle.ErrUnsupported},
		"too long":                      {append(dict("N"), make([]byte, pickle.MaxSize)...), pickle.ErrMalformed},
		"too deep":                      {nested(pickle.MaxDepth), pickle.ErrMalformed},
		"too deep, in tuples":           {dict(")" + strings.Repeat("\x85", pickle.MaxDepth)), pickle.ErrMalformed},
		"too deep, in dictionaries":     {dict(strings.Repeat("}K\x01", pickle.MaxDepth) + "N" + strings.Repeat("s", pickle.MaxDepth)), pickle.ErrMalformed},
		"an integer that is too long":   {dict("\x8b\x01\x04\x00\x00" + strings.Repeat("\x01", 1025)), pickle.ErrMalformed},
		"an entry of the extensions":    {dict("\x82\x01"), pickle.ErrUnsupported},
		"a persistent id":               {dict("N\x51"), pickle.ErrUnsupported},
		"an instance of protocol 0":     {dict("(ios\nsystem\n"), pickle.ErrUnsupported},
		"a buffer elsewhere":            {dict("\x97"), pickle.ErrUnsupported},
		"below a mark":                  {dict("N(\x85t"), pickle.ErrMalformed},
		"no mark":                       {dict("t"), pickle.ErrMalformed},
		"a mark that is left":           {[]byte("\x80\x04(}."), pickle.ErrMalformed},
		"a value that is left":          {[]byte("\x80\x04N}."), pickle.ErrMalformed},
		"no dictionary":                 {[]byte("\x80\x04]."), pickle.ErrMalformed},
		"an object that is no data":     {[]byte("\x80\x04ccollections\nOrderedDict\n)R."), pickle.ErrMalformed},
		"bytes behind the end":          {append(dict("N"), 'N'), pickle.ErrMalformed},
		"the end is missing":            {[]byte("\x80\x04}"), pickle.ErrMalformed},
		"a line without end":            {dict("cos"), pickle.ErrMalformed},
		"a class of a number":           {dict("K\x01K\x02\x93"), pickle.ErrMalformed},
		"a call of a number":            {dict("K\x01)R"), pickle.ErrMalformed},
		"a call with a list":            {dict("cos\nsystem\n]R"), pickle.ErrMalformed},
		"a new number":                  {dict("K\x01)\x81"), pickle.ErrMalformed},
		"a new object of an object":     {dict("ca\nb\n)\x81)\x81"), pickle.ErrMalformed},
		"a state of a class":            {dict("ca\nb\n}b"), pickle.ErrMalformed},
		"a state of a list":             {dict("]}b"), pickle.ErrMalformed},
		"appending to a tuple":          {dict(")Na"), pickle.ErrMalformed},
		"appending to text":             {dict("\x8c\x00Na"), pickle.ErrMalformed},
		"an item of a list":             {dict("]NNs"), pickle.ErrMalformed},
		"a dictionary as key":           {dict("}}Ns"), pickle.ErrMalformed},
		"elements of a list":            {dict("](\x90"), pickle.ErrMalformed},
		"an entry that nobody stored":   {dict("h\x00"), pickle.ErrMalformed},
		"storing when there is nothing": {[]byte("\x80\x04\x94}."), pickle.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := pickle.ReadDict(test.data); !errors.Is(err, test.want) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

// TestContainersAreReferences: a list that occurs twice is one list, although it was stored before it was filled.
func TestContainersAreReferences(t *testing.T) {
	got, err := pickle.ReadDict([]byte("\x80\x04}(\x8c\x01a]\x94K\x07a\x8c\x01bh\x00u."))
	if err != nil {
		t.Fatal(err)
	}
	a, okA := got.Items["a"].(*pickle.List)
	b, okB := got.Items["b"].(*pickle.List)
	if !okA || !okB || a != b || len(a.Items) != 1 || a.Items[0] != int64(7) {
		t.Errorf("got %v and %v, want the same list of 7", got.Items["a"], got.Items["b"])
	}
}

// TestKeysThatAreNotText: items that no session of the gateway could name are left out, and the others stay.
func TestKeysThatAreNotText(t *testing.T) {
	got, err := pickle.ReadDict([]byte("\x80\x04}(K\x01K\x02)K\x03\x8c\x01aK\x04u."))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"a": int64(4)}, got.Items); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

func FuzzReadDict(f *testing.F) {
	for _, c := range vectors(f) {
		f.Add(c.Value)
	}
	f.Add(dict("cuuid\nUUID\n)\x81}\x8c\x03intK\x01sb"))
	f.Add(dict("(K\x01\x91"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := pickle.ReadDict(data)
		switch {
		case err != nil && !errors.Is(err, pickle.ErrMalformed) && !errors.Is(err, pickle.ErrUnsupported):
			t.Errorf("got %v, want one of the package's errors", err)
		case err != nil && strings.Contains(err.Error(), string(data)) && len(data) > 4:
			t.Errorf("the error quotes the pickle: %v", err)
		case err == nil && (got == nil || len(data) > pickle.MaxSize):
			t.Errorf("got %v for %d bytes", got, len(data))
		case err == nil:
			_ = plain(got, 0)
			again, err := pickle.ReadDict(data)
			if err != nil || len(again.Items) != len(got.Items) {
				t.Errorf("the second time: got %v, %v, want %v", again, err, got)
			}
		}
	})
}

func ExampleReadDict() {
	d, err := pickle.ReadDict([]byte("\x80\x04}(\x8c\x04userK\x2a\x8c\x04seencdatetime\ndatetime\n\x8c\x01x\x85Ru."))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, isObject := d.Items["seen"].(*pickle.Object)
	fmt.Println(d.Items["user"], isObject)
	// Output: 42 true
}
