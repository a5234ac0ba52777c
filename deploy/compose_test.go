package deploy_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// composeFile is the part of a compose file that we look at.
type composeFile struct {
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]struct{}       `yaml:"volumes"`
}

type composeService struct {
	Image       string            `yaml:"image"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []string          `yaml:"volumes"`
	Ports       []string          `yaml:"ports"`
	User        string            `yaml:"user"`
	ReadOnly    bool              `yaml:"read_only"`
	Privileged  bool              `yaml:"privileged"`
	CapAdd      []string          `yaml:"cap_add"`
	CapDrop     []string          `yaml:"cap_drop"`
	SecurityOpt []string          `yaml:"security_opt"`
	MemLimit    string            `yaml:"mem_limit"`
	Restart     string            `yaml:"restart"`
	Healthcheck struct {
		Test []string `yaml:"test"`
	} `yaml:"healthcheck"`
}

// TestComposeFiles: every container of every file is confined, has no password but those of .env, and only
// the gateway's public port leaves the network.
func TestComposeFiles(t *testing.T) {
	servers := func(prefix string, n int) (names []string) {
		for i := range n {
			names = append(names, prefix+string(rune('1'+i)))
		}
		return names
	}
	tests := map[string]struct {
		services []string
		redis    map[string]string // how the gateway finds Redis
	}{
		"compose.yaml": {
			[]string{"gateway", "redis", "redis-state"},
			map[string]string{"ORGCAST_REDIS": "redis://gateway:@redis:6379/0", "ORGCAST_REDIS_STATE": "redis://gateway:@redis-state:6379/0"},
		},
		"compose.sentinel.yaml": {
			slices.Concat([]string{"gateway"}, servers("redis-", 3), servers("sentinel-", 3)),
			map[string]string{
				"ORGCAST_REDIS": "redis://gateway:@redis:6379/0", "ORGCAST_REDIS_SENTINEL_MASTER": "orgcast", "ORGCAST_REDIS_SENTINEL_USER": "gateway",
				"ORGCAST_REDIS_SENTINELS": "sentinel-1:26379,sentinel-2:26379,sentinel-3:26379", "ORGCAST_REDIS_SENTINEL_PASSWORD": "",
			},
		},
		"compose.cluster.yaml": {
			slices.Concat([]string{"gateway"}, servers("redis-", 6)),
			map[string]string{"ORGCAST_REDIS": "redis://gateway:@redis:6379", "ORGCAST_REDIS_CLUSTER": "redis-1:6379,redis-2:6379,redis-3:6379"},
		},
	}
	example, err := os.ReadFile(".env.example")
	if err != nil {
		t.Fatal(err)
	}
	secret := regexp.MustCompile(`\$\{(ORGCAST_\w+_PASSWORD):\?see deploy/README\.md\}`)
	for file, test := range tests {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var c composeFile
			if err := yaml.UnmarshalWithOptions(text, &c, yaml.AllowDuplicateMapKey()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.services, slices.Sorted(maps.Keys(c.Services))); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
			mounted := make(map[string]bool)
			for name, s := range c.Services {
				user := "999:999"
				if name == "gateway" {
					user = "65532:65532"
				}
				if s.User != user || !s.ReadOnly || s.Privileged || s.CapAdd != nil || !slices.Equal(s.CapDrop, []string{"ALL"}) ||
					!slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) || s.MemLimit == "" || s.Restart != "unless-stopped" || len(s.Healthcheck.Test) == 0 {
					t.Errorf("%s is not confined as it should be, or has no health check: %+v", name, s)
				}
				if name != "gateway" && s.Ports != nil {
					t.Errorf("%s has ports: %v", name, s.Ports)
				}
				for _, volume := range s.Volumes {
					source, target, _ := strings.Cut(volume, ":")
					if _, declared := c.Volumes[source]; target == "/data" && (!declared || mounted[source]) || target != "/data" && volume != "./redis:/etc/orgcast:ro" {
						t.Errorf("%s: volume %s is not declared, not its own or not read-only", name, volume)
					}
					mounted[source] = target == "/data"
				}
				for variable, value := range s.Environment {
					for _, m := range secret.FindAllStringSubmatch(value, -1) {
						if !strings.Contains(string(example), "\n"+m[1]+"=\n") {
							t.Errorf("%s: .env.example has no %s", name, m[1])
						}
					}
					if strings.HasSuffix(variable, "_PASSWORD") && secret.ReplaceAllString(value, "") != "" {
						t.Errorf("%s: %s is not from .env", name, variable)
					}
				}
			}
			gateway := c.Services["gateway"]
			if !slices.Equal(gateway.Ports, []string{"${ORGCAST_BIND:-127.0.0.1:8080}:8080"}) {
				t.Errorf("ports of the gateway: %v", gateway.Ports)
			}
			redis := make(map[string]string)
			for variable, value := range gateway.Environment {
				if strings.HasPrefix(variable, "ORGCAST_REDIS") {
					redis[variable] = secret.ReplaceAllString(value, "")
				}
			}
			if diff := cmp.Diff(test.redis, redis); diff != "" {
				t.Errorf("how the gateway finds Redis (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReplicationUsers tries what the users of replicas and of Sentinels may do at a Redis with data: watch
// it and copy it, but neither read nor write a key.
func TestReplicationUsers(t *testing.T) {
	_, connect := startScript(t, "redis/start.sh", "ORGCAST_REDIS_USERS=users.acl replication.acl watched.acl",
		"ORGCAST_REPLICATION_PASSWORD=replication's", "ORGCAST_SENTINEL_PASSWORD=sentinel's")
	const refused = "NOPERM"
	for name, test := range map[string]struct {
		user    string
		command []any
		want    string // the start of the error; "" means that it is allowed
	}{
		"the gateway is there, too":            {"gateway", []any{"exists", "orgcast:session:k"}, ""},
		"the gateway makes no replicas":        {"gateway", []any{"replicaof", "no", "one"}, refused},
		"the gateway copies nothing":           {"gateway", []any{"psync", "?", "-1"}, refused},
		"replicas introduce themselves":        {"replication", []any{"replconf", "listening-port", "6379"}, ""},
		"replicas read no keys":                {"replication", []any{"get", "orgcast:session:k"}, refused},
		"replicas write no keys":               {"replication", []any{"set", "orgcast:session:k", "x"}, refused},
		"replicas change no settings":          {"replication", []any{"config", "set", "maxmemory", "1"}, refused},
		"replicas do not choose their master":  {"replication", []any{"replicaof", "no", "one"}, refused},
		"members of a Cluster meet":            {"replication", []any{"cluster", "meet", "127.0.0.1", "6379"}, "ERR This instance has cluster support disabled"},
		"Sentinels look":                       {"sentinel", []any{"info"}, ""},
		"Sentinels make a master":              {"sentinel", []any{"replicaof", "no", "one"}, ""},
		"Sentinels greet each other":           {"sentinel", []any{"publish", "__sentinel__:hello", "x"}, ""},
		"Sentinels change no settings":         {"sentinel", []any{"config", "set", "maxmemory", "1"}, refused},
		"Sentinels read no keys":               {"sentinel", []any{"get", "orgcast:session:k"}, refused},
		"Sentinels publish no events":          {"sentinel", []any{"publish", "orgcast:{1}:group:g", "x"}, refused},
		"Sentinels announce nothing":           {"sentinel", []any{"publish", "orgcast:control", "x"}, refused},
		"Sentinels hear nothing else":          {"sentinel", []any{"subscribe", "orgcast:control"}, refused},
		"Sentinels cannot be used to empty it": {"sentinel", []any{"flushall"}, refused},
	} {
		t.Run(name, func(t *testing.T) {
			err := connect(t, test.user).Do(t.Context(), test.command...).Err()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
				t.Errorf("%v as %q: got error %v, want %q", test.command, test.user, err, test.want)
			}
		})
	}
}
