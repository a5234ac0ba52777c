package keyspace_test

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestNewRefusesAmbiguousPrefixes(t *testing.T) {
	for _, prefix := range []string{"", "a:b", "a{", "}", "*", "é", "a b", strings.Repeat("a", 65)} {
		if _, err := keyspace.New(prefix); !errors.Is(err, keyspace.ErrInvalidPrefix) {
			t.Errorf("New(%q): got %v, want ErrInvalidPrefix", prefix, err)
		}
	}
}

// Other programs use the names, so they must not change.
func TestNames(t *testing.T) {
	k := testkit.Keys(t)
	org := testkit.Org(t, "7")
	g, err := event.NewGroup(org, "chat.x_1-2")
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		k.GroupChannel(g):                           "orgcast:{7}:group:chat.x_1-2",
		k.History(g):                                "orgcast:{7}:history:chat.x_1-2",
		k.Presence(g):                               "orgcast:{7}:presence:chat.x_1-2",
		k.PresenceChannel(g):                        "orgcast:{7}:presence:chat.x_1-2",
		k.InDatabase(3).PresenceChannel(g):          "orgcast@3:{7}:presence:chat.x_1-2",
		k.InDatabase(3).Presence(g):                 "orgcast:{7}:presence:chat.x_1-2",
		keyspace.PresenceField("gw-1", "auth0|123"): "gw-1:auth0%7C123",
		keyspace.PresenceField("gw-1", ""):          "gw-1:",
		k.Once(g, "order:1}"):                       "orgcast:{7}:once:chat.x_1-2:order:1}",
		k.Organization(org):                         "orgcast:{7}:org",
		k.Connections(org):                          "orgcast:{7}:connections",
		k.Connections(orgctx.ID{}):                  "orgcast:{.none}:connections",
		k.Organization(orgctx.ID{}):                 "orgcast:{.none}:org",
		k.Member(org, "u-1"):                        "orgcast:{7}:member:u-1",
		k.Epoch(org):                                "orgcast:{7}:epoch",
		k.MemberBytes(org):                          "orgcast:{7}:bytes",
		k.MemberBytes(orgctx.ID{}):                  "orgcast:{.none}:bytes",
		k.MemberBytesOf(org, "u-1"):                 "orgcast:{7}:bytes:u-1",
		k.MemberBytesOf(orgctx.ID{}, "u-1"):         "orgcast:{.none}:bytes:u-1",
		k.Member(org, "auth0|123"):                  "orgcast:{7}:member:auth0%7C123",
		k.Member(org, "a%7Cb"):                      "orgcast:{7}:member:a%257Cb",
		k.Member(org, ".."):                         "orgcast:{7}:member:%2E%2E",
		k.UserDisabled("ü@example.com"):             "orgcast:user-disabled:%C3%BC%40example%2Ecom",
		k.MemberBytesOf(org, "a:b"):                 "orgcast:{7}:bytes:a%3Ab",
		k.Object(org, "chat", "c-1"):                "orgcast:{7}:object:chat:c-1",
		k.Session("KEY"):                            "orgcast:session:KEY",
		k.Canary("node"):                            "orgcast:canary:node",
		k.GroupChannel(group(t, org, "group")):      "orgcast:{7}:group:group",
		k.Tasks("crew"):                             "orgcast:tasks:crew",
		k.DeadTasks("crew"):                         "orgcast:tasks:crew:dead",
		k.TaskOnce(org, "crew", "c-1"):              "orgcast:once:{orgcast:tasks:crew}:7:c-1",
		k.TaskLine(org, "crew"):                     "orgcast:line:{orgcast:tasks:crew}:7",
		k.TaskRing("crew"):                          "orgcast:ring:{orgcast:tasks:crew}",
		k.TaskLines("crew"):                         "orgcast:lines:{orgcast:tasks:crew}",
		k.TaskIdle("crew"):                          "orgcast:idle:{orgcast:tasks:crew}",
		k.Nodes():                                   "orgcast:nodes",
		k.Node("gw-1"):                              "orgcast:node:{orgcast:nodes}:gw-1",
		k.Answers("q1"):                             "orgcast:answers:q1",
		k.Questions():                               "orgcast:questions",
		k.Usage(hour):                               "orgcast:usage:2026112904",
		k.InDatabase(3).Questions():                 "orgcast@3:questions",
		k.Request(org, "u-1", "r-1"):                "orgcast:once:{7}:u-1:r-1",
		k.Request(org, "auth0|1:2", "r-1"):          "orgcast:once:{7}:auth0%7C1%3A2:r-1",
		k.TaskEnd(org, "crew", "t-1"):               "orgcast:{7}:task:crew:t-1",
		k.Ask(org, "e-1", 3):                        "orgcast:{7}:ask:e-1:3",
		k.Stored(org, "notes.x"):                    "orgcast:{7}:store:notes.x",
		// Databases of a server share its channels, but not its keys.
		k.InDatabase(0).GroupChannel(g):         "orgcast:{7}:group:chat.x_1-2",
		k.InDatabase(3).GroupChannel(g):         "orgcast@3:{7}:group:chat.x_1-2",
		k.InDatabase(12).Control():              "orgcast@12:control",
		k.InDatabase(3).InDatabase(0).Control(): "orgcast:control",
		k.InDatabase(3).Canary("node"):          "orgcast@3:canary:node",
		k.InDatabase(3).CanaryIn("t", "node"):   "orgcast@3:canary:{t}:node",
		k.InDatabase(3).History(g):              "orgcast:{7}:history:chat.x_1-2",
		k.InDatabase(3).Session("KEY"):          "orgcast:session:KEY",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// hour is an hour whose usage is kept.
var hour = time.Date(2026, 11, 29, 5, 30, 0, 0, time.FixedZone("east", 3600))

func group(tb testing.TB, org orgctx.ID, name string) event.Group {
	tb.Helper()
	g, err := event.NewGroup(org, name)
	if err != nil {
		tb.Fatalf("NewGroup(%q): %v", name, err)
	}
	return g
}

func TestParseGroupChannelRefusesHostileNames(t *testing.T) {
	k := testkit.Keys(t)
	for _, channel := range []string{
		"",
		"orgcast",
		"orgcast:",
		"orgcast:{",
		"orgcast:{}:group:y",
		"orgcast:{a}:group:",
		"orgcast:{a}:group",
		"orgcast:{a}:history:y",
		"orgcast:{a}:org",
		"orgcast:{a}:member:u",
		"orgcast:session:{a}:group:y",
		"orgcast:control",
		"other:{a}:group:y",
		"ORGCAST:{a}:group:y",
		"orgcast:orgcast:{a}:group:y",
		" orgcast:{a}:group:y",
		"orgcast:{a}:group:y ",
		"orgcast:{a}:group:y\n",
		"orgcast:{a}:group:x}:group:y",
		"orgcast:{a}:group:{b}",
		"orgcast:{{a}:group:y",
		"orgcast:{a}}:group:y",
		"orgcast:{a:group:y",
		"orgcast:{a}:group:*",
		"orgcast:{*}:group:y",
		"orgcast:{a}:group:a/b",
		"orgcast:{é}:group:y",
		"orgcast:{a}:group:é",
		"orgcast:{" + strings.Repeat("a", 65) + "}:group:y",
		"orgcast:{a}:group:" + strings.Repeat("y", 101),
		"orgcast@3:{a}:group:y", // of another database
		"orgcast@0:{a}:group:y",
		"orgcast@:{a}:group:y",
	} {
		if g, ok := k.ParseGroupChannel(channel); ok || !g.IsZero() {
			t.Errorf("ParseGroupChannel(%q): got %v, %v, want nothing", channel, g, ok)
		}
	}
}

var (
	ids        = rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`)
	groupNames = rapid.StringMatching(`[A-Za-z0-9_.-]{1,100}`)
	// userIDs are few and short, and contain all separators of names.
	userIDs = rapid.OneOf(rapid.StringMatching(`[aA_.:{}%|@-]{1,3}`), rapid.SampledFrom([]string{
		"ada", "ada.inbox", "a|b", "a%7Cb", "a%7cb", "ü", "u\u0308", "..", "}:member:a", "org", "bytes",
	}))
)

func TestGroupChannelRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, err := keyspace.New(ids.Draw(t, "prefix"))
		if err != nil {
			t.Fatal(err)
		}
		database := rapid.IntRange(0, 1<<31).Draw(t, "database")
		other := k.InDatabase(database + rapid.IntRange(1, 100).Draw(t, "further"))
		k = k.InDatabase(database)
		org, err := orgctx.ParseID(ids.Draw(t, "org"))
		if err != nil {
			t.Fatal(err)
		}
		g, err := event.NewGroup(org, groupNames.Draw(t, "name"))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := k.ParseGroupChannel(k.GroupChannel(g)); !ok || got != g {
			t.Fatalf("got %v, %v, want %v", got, ok, g)
		}
		if got, ok := other.ParseGroupChannel(k.GroupChannel(g)); ok {
			t.Fatalf("another database takes %s for its own %v", k.GroupChannel(g), got)
		}
	})
}

// Two names are equal only if they are made for the same thing.
func TestNamesNeverCollide(t *testing.T) {
	// Few and short values, so that collisions would show.
	short := rapid.StringMatching(`[a_-]{1,3}|org|member|group|session|session-ended|user-disabled|control|canary|tasks|dead|once|line|ring|lines|idle|task|ask|store|history|epoch|bytes|nodes|node|answers|questions|usage|presence`)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) (name, thing string) {
			prefix := short.Draw(t, label+" prefix")
			orgText := short.Draw(t, label+" org")
			rest := short.Draw(t, label+" rest")
			k, err := keyspace.New(prefix)
			if err != nil {
				t.Fatal(err)
			}
			database := rapid.IntRange(0, 2).Draw(t, label+" database")
			k = k.InDatabase(database)
			org, err := orgctx.ParseID(orgText)
			if err != nil {
				t.Fatal(err)
			}
			more, user := short.Draw(t, label+" more"), userIDs.Draw(t, label+" user")
			switch kind := rapid.IntRange(0, 28).Draw(t, label+" kind"); kind {
			case 0:
				g, err := event.NewGroup(org, rest)
				if err != nil {
					t.Fatal(err)
				}
				return k.GroupChannel(g), fmt.Sprint("group ", prefix, " ", orgText, " ", rest, " ", database)
			case 27, 28:
				g, err := event.NewGroup(org, rest)
				if err != nil {
					t.Fatal(err)
				}
				if kind == 27 {
					return k.Presence(g), fmt.Sprint("presence ", prefix, " ", orgText, " ", rest)
				}
				// In database 0, the channel has the name of the hash, which is no key of anything else.
				if database == 0 {
					return k.PresenceChannel(g), fmt.Sprint("presence ", prefix, " ", orgText, " ", rest)
				}
				return k.PresenceChannel(g), fmt.Sprint("presence channel ", prefix, " ", orgText, " ", rest, " ", database)
			case 1:
				return k.Organization(org), fmt.Sprint("organization ", prefix, " ", orgText)
			case 2:
				return k.Member(org, user), fmt.Sprint("member ", prefix, " ", orgText, " ", user)
			case 3:
				return k.Session(rest), fmt.Sprint("session ", prefix, " ", rest)
			case 16:
				return k.SessionEnded(rest), fmt.Sprint("session ended ", prefix, " ", rest)
			case 17:
				return k.Epoch(org), fmt.Sprint("epoch ", prefix, " ", orgText)
			case 18:
				return k.MemberBytes(org), fmt.Sprint("bytes ", prefix, " ", orgText)
			case 19:
				return k.MemberBytesOf(org, user), fmt.Sprint("bytes of ", prefix, " ", orgText, " ", user)
			case 20:
				return k.TaskLine(org, rest), fmt.Sprint("line ", prefix, " ", orgText, " ", rest)
			case 21:
				of := map[string]func(string) string{"ring": k.TaskRing, "lines": k.TaskLines, "idle": k.TaskIdle}
				what := rapid.SampledFrom([]string{"ring", "lines", "idle"}).Draw(t, label+" what")
				return of[what](rest), fmt.Sprint(what, " ", prefix, " ", rest)
			case 26:
				return k.Usage(hour.Add(time.Duration(len(more)) * time.Hour)), fmt.Sprint("usage ", prefix, " ", len(more))
			case 22:
				return k.Nodes(), fmt.Sprint("nodes ", prefix)
			case 23:
				return k.Node(rest), fmt.Sprint("node ", prefix, " ", rest)
			case 24:
				return k.Answers(rest), fmt.Sprint("answers ", prefix, " ", rest)
			case 25:
				return k.Questions(), fmt.Sprint("questions ", prefix, " ", database)
			case 14:
				return k.UserDisabled(user), fmt.Sprint("user disabled ", prefix, " ", user)
			case 15:
				return k.Control(), fmt.Sprint("control ", prefix, " ", database)
			case 4:
				return k.Tasks(rest), fmt.Sprint("tasks ", prefix, " ", rest)
			case 5:
				return k.DeadTasks(rest), fmt.Sprint("dead ", prefix, " ", rest)
			case 6:
				return k.TaskOnce(org, rest, more), fmt.Sprint("once ", prefix, " ", orgText, " ", rest, " ", more)
			case 7:
				return k.TaskEnd(org, rest, more), fmt.Sprint("end ", prefix, " ", orgText, " ", rest, " ", more)
			case 8:
				return k.Ask(org, rest, len(more)), fmt.Sprint("ask ", prefix, " ", orgText, " ", rest, " ", len(more))
			case 9:
				return k.Stored(org, rest), fmt.Sprint("store ", prefix, " ", orgText, " ", rest)
			case 10, 11:
				g, err := event.NewGroup(org, rest)
				if err != nil {
					t.Fatal(err)
				}
				if kind == 10 {
					return k.History(g), fmt.Sprint("history ", prefix, " ", orgText, " ", rest)
				}
				key := rapid.StringMatching(`[a:}-]{1,3}`).Draw(t, label+" key")
				return k.Once(g, key), fmt.Sprint("recorded once ", prefix, " ", orgText, " ", rest, " ", key)
			case 12:
				return k.Object(org, rest, more), fmt.Sprint("object ", prefix, " ", orgText, " ", rest, " ", more)
			default:
				return k.Canary(rest), fmt.Sprint("canary ", prefix, " ", rest, " ", database)
			}
		}
		nameA, thingA := draw("a")
		nameB, thingB := draw("b")
		if (nameA == nameB) != (thingA == thingB) {
			t.Fatalf("%s is %q, %s is %q", thingA, nameA, thingB, nameB)
		}
	})
}

// TestEveryNameParsesBackInOneWay: exactly one of the forms of names fits each name, and shows what
// it was made for, whatever the prefix, the database and the parts.
func TestEveryNameParsesBackInOneWay(t *testing.T) {
	const id, user, name, prefix, channel = `([A-Za-z0-9_-]{1,64})`, `((?:[A-Za-z0-9_-]|%[0-9A-F]{2}){1,384})`, `([A-Za-z0-9_.-]{1,100})`, `^([A-Za-z0-9_-]{1,64}):`, `^([A-Za-z0-9_-]{1,64})(?:@([1-9][0-9]*))?:`
	forms := map[string]*regexp.Regexp{}
	for kind, form := range map[string]string{
		"group": channel + `\{` + id + `\}:group:` + name, "control": channel + `control`, "canary": channel + `canary:` + id,
		"canary in": channel + `canary:\{` + id + `\}:` + id,
		"history":   prefix + `\{` + id + `\}:history:` + name, "epoch": prefix + `\{` + id + `\}:epoch`,
		"once": prefix + `\{` + id + `\}:once:` + name + `:(.+)`, "organization": prefix + `\{` + id + `\}:org`,
		"connections": prefix + `\{` + id + `\}:connections`, "member": prefix + `\{` + id + `\}:member:` + user,
		"bytes": prefix + `\{` + id + `\}:bytes`, "bytes of": prefix + `\{` + id + `\}:bytes:` + user,
		"object": prefix + `\{` + id + `\}:object:` + id + `:` + id, "session": prefix + `session:(.+)`,
		"session ended": prefix + `session-ended:` + id, "user disabled": prefix + `user-disabled:` + user,
		"tasks": prefix + `tasks:` + id, "dead tasks": prefix + `tasks:` + id + `:dead`,
		"task once": prefix + `once:\{[A-Za-z0-9_-]{1,64}:tasks:` + id + `\}:` + id + `:` + name,
		"task line": prefix + `line:\{[A-Za-z0-9_-]{1,64}:tasks:` + id + `\}:` + id,
		"task ring": prefix + `ring:\{[A-Za-z0-9_-]{1,64}:tasks:` + id + `\}`, "task lines": prefix + `lines:\{[A-Za-z0-9_-]{1,64}:tasks:` + id + `\}`,
		"task idle": prefix + `idle:\{[A-Za-z0-9_-]{1,64}:tasks:` + id + `\}`,
		"request":   prefix + `once:\{` + id + `\}:` + user + `:` + id,
		"task end":  prefix + `\{` + id + `\}:task:` + id + `:` + id, "ask": prefix + `\{` + id + `\}:ask:` + id + `:([0-9]+)`,
		"stored": prefix + `\{` + id + `\}:store:` + name,
		"nodes":  prefix + `nodes`, "node": prefix + `node:\{[A-Za-z0-9_-]{1,64}:nodes\}:` + id, "answers": prefix + `answers:` + id,
		"questions": channel + `questions`, "usage": prefix + `usage:(2026112[0-9]{3})`,
	} {
		forms[kind] = regexp.MustCompile(form + `$`)
	}
	rapid.Check(t, func(t *rapid.T) {
		// Short values, including all words of the forms, so that confusions would show.
		short := rapid.OneOf(rapid.StringMatching(`[a_-]{1,3}`), rapid.SampledFrom([]string{
			"org", "member", "group", "session", "session-ended", "user-disabled", "control", "canary", "tasks", "dead", "once", "line", "ring", "lines", "idle",
			"task", "ask", "store", "history", "epoch", "connections", "object", "bytes", "nodes", "node", "answers", "questions", "usage",
		}))
		person := userIDs.Draw(t, "user")
		prefix, first, second := short.Draw(t, "prefix"), short.Draw(t, "first"), short.Draw(t, "second")
		orgText, key := short.Draw(t, "org"), rapid.StringMatching(`[a:}{@-]{1,3}`).Draw(t, "key")
		database, index := rapid.IntRange(0, 20).Draw(t, "database"), rapid.IntRange(0, 9).Draw(t, "index")
		k, err := keyspace.New(prefix)
		if err != nil {
			t.Fatal(err)
		}
		k = k.InDatabase(database)
		org, err := orgctx.ParseID(orgText)
		if err != nil {
			t.Fatal(err)
		}
		g, err := event.NewGroup(org, first)
		if err != nil {
			t.Fatal(err)
		}
		inDatabase := ""
		if database > 0 {
			inDatabase = strconv.Itoa(database)
		}
		names := map[string]struct {
			name  string
			parts []string
		}{
			"group":     {k.GroupChannel(g), []string{prefix, inDatabase, orgText, first}},
			"control":   {k.Control(), []string{prefix, inDatabase}},
			"canary":    {k.Canary(first), []string{prefix, inDatabase, first}},
			"canary in": {k.CanaryIn(first, second), []string{prefix, inDatabase, first, second}},
			"history":   {k.History(g), []string{prefix, orgText, first}}, "epoch": {k.Epoch(org), []string{prefix, orgText}},
			"once":         {k.Once(g, key), []string{prefix, orgText, first, key}},
			"organization": {k.Organization(org), []string{prefix, orgText}}, "connections": {k.Connections(org), []string{prefix, orgText}},
			"member": {k.Member(org, person), []string{prefix, orgText, person}},
			"bytes":  {k.MemberBytes(org), []string{prefix, orgText}}, "bytes of": {k.MemberBytesOf(org, person), []string{prefix, orgText, person}},
			"object":  {k.Object(org, first, second), []string{prefix, orgText, first, second}},
			"session": {k.Session(first), []string{prefix, first}}, "session ended": {k.SessionEnded(first), []string{prefix, first}},
			"user disabled": {k.UserDisabled(person), []string{prefix, person}}, "tasks": {k.Tasks(first), []string{prefix, first}},
			"dead tasks": {k.DeadTasks(first), []string{prefix, first}},
			"task once":  {k.TaskOnce(org, first, second), []string{prefix, first, orgText, second}},
			"task line":  {k.TaskLine(org, first), []string{prefix, first, orgText}}, "task ring": {k.TaskRing(first), []string{prefix, first}},
			"task lines": {k.TaskLines(first), []string{prefix, first}}, "task idle": {k.TaskIdle(first), []string{prefix, first}},
			"request":  {k.Request(org, person, second), []string{prefix, orgText, person, second}},
			"task end": {k.TaskEnd(org, first, second), []string{prefix, orgText, first, second}},
			"ask":      {k.Ask(org, first, index), []string{prefix, orgText, first, strconv.Itoa(index)}},
			"stored":   {k.Stored(org, first), []string{prefix, orgText, first}},
			"nodes":    {k.Nodes(), []string{prefix}}, "node": {k.Node(first), []string{prefix, first}}, "answers": {k.Answers(first), []string{prefix, first}},
			"questions": {k.Questions(), []string{prefix, inDatabase}}, "usage": {k.Usage(hour), []string{prefix, "2026112904"}},
		}
		for kind, made := range names {
			for form, pattern := range forms {
				m := pattern.FindStringSubmatch(made.name)
				if m != nil && slices.Contains([]string{"member", "bytes of", "user disabled", "request"}, form) {
					// The user id, which any percent decoder can read.
					at := len(m) - 1
					if form == "request" {
						at--
					}
					if m[at], err = url.PathUnescape(m[at]); err != nil {
						t.Fatalf("%s %q: %v", kind, made.name, err)
					}
				}
				switch {
				case form != kind && m != nil:
					t.Fatalf("%s %q can be read as %s", kind, made.name, form)
				case form == kind && (m == nil || !slices.Equal(m[1:], made.parts)):
					t.Fatalf("%s %q: got %q, want %q", kind, made.name, m, made.parts)
				}
			}
		}
	})
}

func FuzzParseGroupChannel(f *testing.F) {
	f.Add("orgcast:{a}:group:y")
	f.Add("orgcast:{a}:group:x}:group:y")
	f.Add("orgcast:{}:group:")
	f.Add("orgcast:{a}:group:{b}:group:c")
	f.Add("\xff")
	f.Add("orgcast@3:{a}:group:y")
	f.Add("orgcast@03:{a}:group:y")
	zero := testkit.Keys(f)
	f.Fuzz(func(t *testing.T, channel string) {
		taken := 0
		for _, k := range []keyspace.Keyspace{zero, zero.InDatabase(1), zero.InDatabase(3)} {
			g, ok := k.ParseGroupChannel(channel)
			if !ok {
				if !g.IsZero() {
					t.Errorf("ParseGroupChannel(%q): got %v beside false", channel, g)
				}
				continue
			}
			taken++
			// A name that parses is the name of the parsed group.
			if got := k.GroupChannel(g); got != channel {
				t.Errorf("ParseGroupChannel(%q) is %v, whose channel is %q", channel, g, got)
			}
		}
		if taken > 1 {
			t.Errorf("%q is a channel of %d databases", channel, taken)
		}
	})
}

// TestTasksOfAKindShareASlot: scripts use all names of a kind together.
func TestTasksOfAKindShareASlot(t *testing.T) {
	k := testkit.Keys(t)
	for _, kind := range []string{"crew", "a", "tasks", "ring"} {
		want := keyspace.Slot(k.Tasks(kind))
		for _, name := range []string{
			k.TaskOnce(testkit.Org(t, "acme"), kind, "k"), k.TaskLine(testkit.Org(t, "acme"), kind), k.TaskLine(testkit.Org(t, "globex"), kind),
			k.TaskRing(kind), k.TaskLines(kind), k.TaskIdle(kind),
		} {
			if got := keyspace.Slot(name); got != want {
				t.Errorf("%s: got slot %d, want %d, that of %s", name, got, want, k.Tasks(kind))
			}
		}
	}
}

// TestPresenceFieldRoundTrip: a field belongs to one node and one user, and nothing else is one.
func TestPresenceFieldRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		node, user := ids.Draw(t, "node"), rapid.OneOf(rapid.Just(""), userIDs).Draw(t, "user")
		gotNode, gotUser, ok := keyspace.ParsePresenceField(keyspace.PresenceField(node, user))
		if !ok || gotNode != node || gotUser != user {
			t.Fatalf("got %q, %q, %v, want %q, %q", gotNode, gotUser, ok, node, user)
		}
	})
	for _, field := range []string{"", ":", "a", ":ada", "a b:ada", "a:ada:b", "a:%", "a:%41", "a:%c3%bc", "a:ü", "a:a b", "a:%20", "a:" + strings.Repeat("u", 129)} {
		if node, user, ok := keyspace.ParsePresenceField(field); ok {
			t.Errorf("%q: got %q, %q", field, node, user)
		}
	}
}
