package clients_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// signIns are programs around the functions of docs/protocol.md. Each hands the function a connection that prints what
// it is asked to write, and then prints the cookie.
var signIns = map[string]struct{ tag, file, command, rest string }{
	"node": {"js", "program.mjs", "node", `
const redis = { set: async (name, value, options) => console.log(JSON.stringify({ name, value, seconds: options.EX })) };
console.log(JSON.stringify({ cookie: await signIn(redis, 'ada', 'acme') }));
`},
	"python": {"python", "program.py", "", `
class Connection:
    def set(self, name, value, ex):
        print(json.dumps({"name": name, "value": value, "seconds": ex}))


print(json.dumps({"cookie": sign_in(Connection(), "ada", "acme")}))
`},
	"php": {"php", "program.php", "php", `
class Connection
{
    public function set($name, $value, $options)
    {
        echo json_encode(['name' => $name, 'value' => $value, 'seconds' => $options['EX']]), "\n";
    }
}
echo json_encode(['cookie' => signIn(new Connection(), 'ada', 'acme')]), "\n";
`},
	"ruby": {"ruby", "program.rb", "ruby", `
class Connection
  def set(name, value, ex:)
    puts JSON.generate({ name: name, value: value, seconds: ex })
  end
end
puts JSON.generate({ cookie: sign_in(Connection.new, "ada", "acme") })
`},
}

// TestSignInFromOtherLanguages: the gateway reads the sessions that the functions of docs/protocol.md make.
func TestSignInFromOtherLanguages(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(t), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	store, err := session.NewRedisStore(client, testkit.Keys(t), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tested := strings.Split(*languages, ",")
	for language, p := range signIns {
		if !slices.Contains(tested, language) {
			continue
		}
		t.Run(language, func(t *testing.T) {
			var program string
			for _, m := range block.FindAllStringSubmatch(readFile(t, "../docs/protocol.md"), -1) {
				if m[1] == p.tag && (strings.Contains(m[2], "signIn(") || strings.Contains(m[2], "sign_in(")) {
					program += m[2]
				}
			}
			if program == "" {
				t.Fatal("docs/protocol.md has no function")
			}
			path := filepath.Join(t.TempDir(), p.file)
			if err := os.WriteFile(path, []byte(program+p.rest), 0o600); err != nil {
				t.Fatal(err)
			}
			command := []string{p.command, path}
			if p.command == "" {
				command, _ = pythonCommand(t, path)
			}
			out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var wrote struct {
				Name, Value, Cookie string
				Seconds             int
			}
			for line := range strings.Lines(string(out)) {
				if err := json.Unmarshal([]byte(line), &wrote); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
			}
			if err := client.Set(t.Context(), wrote.Name, wrote.Value, time.Duration(wrote.Seconds)*time.Second).Err(); err != nil {
				t.Fatal(err)
			}
			r := &http.Request{Header: http.Header{"Cookie": {session.DefaultName + "=" + wrote.Cookie}}}
			got, err := store.Resolve(t.Context(), r)
			if err != nil || got.UserID != "ada" || got.Organization.String() != "acme" || time.Until(got.Expires) > time.Hour {
				t.Errorf("got %+v, %v, want ada of acme for an hour; the program printed\n%s", got, err, out)
			}
		})
	}
}
