package main

import (
	"errors"
	"net"
	"strings"
	"testing"

	"orgcast/internal/bench"
	"orgcast/internal/cli"
)

func TestCommands(t *testing.T) {
	good := environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_REDIS": "redis://user:hush@127.0.0.1:6379/0"}
	minted, _, err := execute(t, good, "", "session", "mint", "ada", "acme")
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(strings.TrimSpace(minted), "=")
	tests := map[string]struct {
		args   []string
		env    environment
		err    error // exit code, nil for 0
		failed bool  // any other error
		code   int   // its exit code if it is not 1
		stdout []string
		stderr []string
		says   []string // the error that main prints
	}{
		"help":                   {args: []string{"--help"}, stdout: []string{"demo", "serve", "publish", "healthcheck"}},
		"help as a word":         {args: []string{"help"}, stdout: []string{"gateway demo"}},
		"version":                {args: []string{"version"}, stdout: []string{"dev\n", "built with: go1."}},
		"unknown subcommand":     {args: []string{"srve"}, err: cli.ErrUsage, stderr: []string{`"srve"`}},
		"help of serve":          {args: []string{"serve", "--help"}, stdout: []string{"--origins", "ORGCAST_ORIGINS", "--session-keys-file"}},
		"serve with nothing":     {args: []string{"serve"}, err: cli.ErrUsage, stderr: []string{"--origins", "--session-keys"}},
		"serve without origins":  {env: environment{"ORGCAST_SESSION_KEYS": testKey}, err: cli.ErrUsage, stderr: []string{"--origins"}},
		"origin list of none":    {env: environment{"ORGCAST_SESSION_KEYS": testKey, "ORGCAST_ORIGINS": "none"}, err: cli.ErrUsage, stderr: []string{"--origins"}},
		"surplus":                {args: []string{"serve", "now"}, env: good, err: cli.ErrUsage, stderr: []string{`"now"`}},
		"surplus comes first":    {args: []string{"serve", "now"}, err: cli.ErrUsage, stderr: []string{`gateway: unexpected arguments: ["now"]`}},
		"surplus of check":       {args: []string{"check", "now"}, err: cli.ErrUsage, stderr: []string{`gateway: unexpected arguments: ["now"]`}},
		"surplus of version":     {args: []string{"version", "now"}, err: cli.ErrUsage, stderr: []string{`gateway: unexpected arguments: ["now"]`}},
		"surplus of --version":   {args: []string{"--version", "now"}, err: cli.ErrUsage, stderr: []string{`gateway: unexpected arguments: ["now"]`}},
		"help of version":        {args: []string{"version", "--help"}, stdout: []string{"Print the version"}},
		"a port too high":        {args: []string{"check", "--listen", ":80800"}, env: good, err: cli.ErrUsage, stderr: []string{`--listen (from flag): has port "80800": must be a number from 0 to 65535`}},
		"no port":                {args: []string{"check", "--admin-listen", "127.0.0.1:"}, env: good, err: cli.ErrUsage, stderr: []string{`--admin-listen (from flag): must be HOST:PORT`}},
		"Redis, a port too high": {args: []string{"check", "--redis", "redis://a:80800"}, env: good, err: cli.ErrUsage, stderr: []string{"--redis (from flag): is not a valid Redis URL: the port must be"}},
		"Cluster, such a port":   {args: []string{"check", "--redis-cluster", "a:80800"}, env: good, err: cli.ErrUsage, stderr: []string{`"a:80800" is not HOST:PORT`}},
		"effective directory":    {args: []string{"check"}, env: good, stdout: []string{"directory                    redis                                    default", "redis-state                  (the same as redis)"}},
		"check":                  {args: []string{"check"}, env: good, stdout: []string{"No mistakes", testOrigin, "(set, not shown)", "user:xxxxx@"}},
		"check finds everything": {args: []string{"check", "--listen", "here", "--max-frame=1", "--tls-cert=x", "--color"}, err: cli.ErrUsage, stderr: []string{"--listen", "--max-frame", "--tls-cert", "color", "--origins", "--session-keys"}},
		"every part of a list":   {args: []string{"check", "--origins", "one.example,two.example"}, env: good, err: cli.ErrUsage, stderr: []string{`--origins (from flag): "one.example" must be an origin, such as https://app.example.com, https://*.example.com, http://localhost:3000 or none`, `"two.example" must be an origin`}},
		"every mistake of Redis": {args: []string{"check", "--redis-tls-ca", "ca.pem", "--redis-sentinel-master", "m"}, env: good, err: cli.ErrUsage, stderr: []string{"rediss://", "--redis-sentinels: must be set together"}},
		"no such certificate":    {args: []string{"check", "--tls-cert", "/nowhere", "--tls-key", "/nowhere"}, env: good, err: cli.ErrUsage, stderr: []string{"--tls-cert and --tls-key: open /nowhere"}},
		"config docs":            {args: []string{"config", "docs"}, stdout: []string{"| `--config` | `ORGCAST_CONFIG` | – | – | settings file", "| `--listen` | `ORGCAST_LISTEN` | `:8080` | – |", "| `--origins` | `ORGCAST_ORIGINS` | – | yes |"}},
		"config docs worker":     {args: []string{"config", "docs", "worker"}, stdout: []string{"`--worker-attempts`"}},
		"config docs of nothing": {args: []string{"config", "docs", "version"}, err: cli.ErrUsage, stderr: []string{"gateway config docs"}},
		"config what":            {args: []string{"config"}, err: cli.ErrUsage, stderr: []string{"config: missing arguments", "gateway config init"}},
		"config init, surplus":   {args: []string{"config", "init", "now"}, err: cli.ErrUsage, stderr: []string{`wrong arguments: ["init" "now"]`}},
		"config show":            {args: []string{"config", "show"}, env: environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_DIRECTORY": ""}, stdout: []string{testOrigin, "environment", "(set, not shown)"}},
		"config show worker":     {args: []string{"config", "show", "worker", "--worker-attempts=7"}, stdout: []string{"worker-attempts              7                                        flag"}},
		"config show, mistakes":  {args: []string{"config", "show", "--listen", "x"}, err: cli.ErrUsage, stderr: []string{"--listen (from flag): must be"}, stdout: []string{"max-frame"}},
		"config show nothing":    {args: []string{"config", "show", "nothing"}, err: cli.ErrUsage, stderr: []string{`wrong arguments: ["show" "nothing"]`}},
		"config schema":          {args: []string{"config", "schema"}, stdout: []string{`"title": "Orgcast settings file"`, `"worker-attempts"`, `"publish-key-file"`}},
		"config schema routes":   {args: []string{"config", "schema", "routes"}, stdout: []string{`"title": "Orgcast routes file"`}},
		"config --help":          {args: []string{"config", "--help"}, stdout: []string{"gateway config init"}},
		"no such settings file":  {args: []string{"check", "--config", "/nowhere.yaml"}, env: good, err: cli.ErrUsage, stderr: []string{"--config: /nowhere.yaml: no such file or directory"}},
		"help of check":          {args: []string{"check", "--help"}, stdout: []string{"Exit code 2"}},
		"public health, no path": {args: []string{"check", "--public-health", "healthz"}, env: good, err: cli.ErrUsage, stderr: []string{"--public-health (from flag): must be a path"}},
		"public health, sockets": {args: []string{"check", "--public-health", "/ws/healthz"}, env: good, err: cli.ErrUsage, stderr: []string{"must not be below /ws/"}},
		"public health, streams": {args: []string{"check", "--public-health", "/sse/healthz"}, env: good, err: cli.ErrUsage, stderr: []string{"must not be below /sse/"}},
		"version as a flag":      {args: []string{"--version"}, stdout: []string{"dev"}},
		"help of a subcommand":   {args: []string{"help", "serve"}, stdout: []string{"--origins", "ORGCAST_ORIGINS"}},
		"help of nothing":        {args: []string{"help", "srve"}, err: cli.ErrUsage, stderr: []string{`"srve"`}},
		"nothing at all":         {err: cli.ErrUsage, stderr: []string{"Usage: gateway", "gateway demo"}},
		"Kubernetes alone":       {env: environment{"ORGCAST_SERVICE_HOST": "10.0.0.1", "ORGCAST_PORT_8080_TCP": "tcp://10.0.0.1:8080"}, err: cli.ErrUsage, stderr: []string{"Usage: gateway"}},
		"variables, no argument": {env: environment{"ORGCAST_LISTEN": "127.0.0.1:0"}, err: cli.ErrUsage, stderr: []string{"invalid configuration", "--origins"}},
		"misspelled variable":    {args: []string{"check"}, env: environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_LISTN": ":1"}, err: cli.ErrUsage, stderr: []string{"ORGCAST_LISTN: unknown variable, did you mean ORGCAST_LISTEN?"}},
		"far from any variable":  {args: []string{"serve"}, env: environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_QWERTYUIOP": "1"}, err: cli.ErrUsage, stderr: []string{"ORGCAST_QWERTYUIOP: unknown variable (--allow-unknown-env"}},
		"known elsewhere": {args: []string{"check"}, env: environment{
			"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_IMAGE": "x", "ORGCAST_WORKER_ATTEMPTS": "3", "ORGCAST_PACE": "1s",
			"ORGCAST_SERVICE_HOST": "10.0.0.1", "ORGCAST_SERVICE_PORT_HTTP": "80", "ORGCAST_PORT": "tcp://10.0.0.1:80", "ORGCAST_PORT_80_TCP_ADDR": "10.0.0.1",
		}, stdout: []string{"No mistakes"}},
		"unknown, allowed":       {args: []string{"check", "--allow-unknown-env"}, env: environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_LISTN": ":1"}, stdout: []string{"No mistakes"}},
		"one port for both":      {args: []string{"check", "--listen", ":9090", "--admin-listen", ":9090"}, env: good, err: cli.ErrUsage, stderr: []string{"--listen and --admin-listen: must differ"}},
		"short keys":             {args: []string{"check"}, env: environment{"ORGCAST_SESSION_KEYS": "hush"}, err: cli.ErrUsage, stderr: []string{"key 1"}},
		"origin with a path":     {args: []string{"check", "--origins", "https://a.example/b"}, env: good, err: cli.ErrUsage, stderr: []string{"--origins"}},
		"origin of everything":   {args: []string{"check", "--origins", "*"}, env: good, err: cli.ErrUsage, stderr: []string{"--origins"}},
		"Redis URL":              {args: []string{"check", "--redis", "http://user:hush@x"}, env: good, err: cli.ErrUsage, stderr: []string{"is not a valid Redis URL"}},
		"master, no Sentinels":   {args: []string{"check", "--redis-sentinel-master", "m"}, env: good, err: cli.ErrUsage, stderr: []string{"--redis-sentinels: must be set together"}},
		"Sentinels, no master":   {args: []string{"check", "--redis-sentinels", "a:1"}, env: good, err: cli.ErrUsage, stderr: []string{"--redis-sentinel-master and"}},
		"the same to publish":    {args: []string{"publish", "--redis-sentinels", "a:1", "acme", "all", `{"type":"x"}`}, err: cli.ErrUsage, stderr: []string{"--redis-sentinel-master and"}},
		"lone password":          {args: []string{"check"}, env: environment{"ORGCAST_REDIS_SENTINEL_PASSWORD": "hush"}, err: cli.ErrUsage, stderr: []string{"--redis-sentinel-password"}},
		"certificates, no TLS":   {args: []string{"check", "--redis-tls-ca", "ca.pem"}, env: good, err: cli.ErrUsage, stderr: []string{"rediss://"}},
		"certificate, no key":    {args: []string{"check", "--redis", "rediss://a:1", "--redis-tls-cert", "c.pem"}, env: good, err: cli.ErrUsage, stderr: []string{"--redis-tls-key: must be set together"}},
		"no certificate":         {args: []string{"check", "--redis", "rediss://a:1", "--redis-tls-ca", "run_test.go"}, env: good, err: cli.ErrUsage, stderr: []string{"--redis-tls-ca: holds no"}},
		"no file":                {args: []string{"publish", "--redis", "rediss://a:1", "--redis-tls-ca", "/nowhere", "acme", "all", `{"type":"x"}`}, err: cli.ErrUsage, stderr: []string{"--redis-tls-ca: open /nowhere"}},
		"Sentinels, no host":     {args: []string{"check", "--redis-sentinels", "a:1,:2", "--redis-sentinel-master", "m"}, env: good, err: cli.ErrUsage, stderr: []string{`":2" is not HOST:PORT`}},
		"Cluster and Sentinels":  {args: []string{"check", "--redis-cluster", "a:1", "--redis-sentinels", "a:1", "--redis-sentinel-master", "m"}, env: good, err: cli.ErrUsage, stderr: []string{"a Cluster has no Sentinels"}},
		"Cluster, no port":       {args: []string{"check", "--redis-cluster", "a:1,b"}, env: good, err: cli.ErrUsage, stderr: []string{`"b" is not HOST:PORT`}},
		"Redis in RESP2":         {args: []string{"check", "--redis", "redis://a:1?protocol=2"}, env: good, err: cli.ErrUsage, stderr: []string{"--redis: protocol=2 is not supported"}},
		"Cluster, database":      {args: []string{"revoke", "--redis-cluster", "a:1", "--redis", "redis://a/1", "user", "ada"}, env: good, err: cli.ErrUsage, stderr: []string{"only database 0"}},
		"bench what":             {args: []string{"bench", "measure"}, err: cli.ExitError(bench.ExitFailed), stderr: []string{`bench: wrong arguments: ["measure"]`}},
		"bench all wrong":        {args: []string{"bench", "--speed", "3", "--conns", "0"}, err: cli.ExitError(bench.ExitFailed), stderr: []string{"--speed: unknown flag", "--conns (from flag)"}},
		"bench, no process":      {args: []string{"bench", "--pid", "1,gateway"}, err: cli.ExitError(bench.ExitFailed), stderr: []string{`--pid (from flag): "gateway" is not a process ID`}},
		"bench lease, what":      {args: []string{"bench", "lease", "all"}, err: cli.ExitError(bench.ExitFailed), stderr: []string{`bench lease: wrong arguments: ["all"]`}},
		"bench lease, cookies":   {args: []string{"bench", "lease"}, env: good, err: cli.ExitError(bench.ExitFailed), stderr: []string{"--session-store: must be redis"}},
		"bench lease, Cluster":   {args: []string{"bench", "lease", "--session-store=redis", "--redis-cluster", "a:1"}, err: cli.ExitError(bench.ExitFailed), stderr: []string{"not into a Cluster"}},
		"bench lease, all wrong": {args: []string{"bench", "lease", "--session-store=redis", "--sockets", "50", "--outage", "1s"}, err: cli.ExitError(bench.ExitFailed), stderr: []string{"--sockets: must be a multiple of 20", "--outage: requires --redis-pid"}},
		"bench without keys":     {args: []string{"bench"}, err: cli.ExitError(bench.ExitFailed), stderr: []string{"--session-keys"}},
		"publish nothing":        {args: []string{"publish"}, err: cli.ErrUsage, stderr: []string{"publish: missing arguments", "ORGANIZATION GROUP JSON"}},
		"publish too much":       {args: []string{"publish", "acme", "all", "{}", "{}"}, err: cli.ErrUsage, stderr: []string{`publish: wrong arguments: ["acme" "all" "{}" "{}"]`}},
		"settings come last":     {args: []string{"publish", "acme", "all", `{"type":"x"}`, "--idempotency-key", "a b"}, err: cli.ErrUsage, stderr: []string{"--idempotency-key (from flag)"}},
		"publish too little":     {args: []string{"publish", "acme", "all"}, err: cli.ErrUsage, stderr: []string{`publish: wrong arguments: ["acme" "all"]`, "ORGANIZATION GROUP JSON"}},
		"session what":           {args: []string{"session"}, err: cli.ErrUsage, stderr: []string{"session: missing arguments", "gateway session mint"}},
		"switch and its value":   {args: []string{"check", "--compress", "false"}, env: good, err: cli.ErrUsage, stderr: []string{`unexpected arguments: ["false"] (write the value of a switch after =`}},
		"origin none alone":      {args: []string{"check", "--origins", "none"}, env: good, err: cli.ErrUsage, stderr: []string{"--origins: must list an origin next to none"}},
		"misspelled flag":        {args: []string{"check", "--orgins", testOrigin}, env: good, err: cli.ErrUsage, stderr: []string{"--orgins: unknown flag, did you mean --origins?"}},
		"revoke what":            {args: []string{"revoke", "everything"}, err: cli.ErrUsage, stderr: []string{`revoke: wrong arguments: ["everything"]`}},
		"publish a bad key":      {args: []string{"publish", "--record", "--idempotency-key", "a b", "acme", "all", `{"type":"x"}`}, err: cli.ErrUsage, stderr: []string{"idempotency key"}},
		"publish a lone key":     {args: []string{"publish", "--idempotency-key", "k", "acme", "all", `{"type":"x"}`}, failed: true, code: 2},
		"publish lines, one key": {args: []string{"publish", "--record", "--idempotency-key", "k", "acme", "all", "-"}, failed: true, code: 2},
		"publish to a user":      {args: []string{"publish", "--user", "a b", "acme", `{"type":"x"}`}, err: cli.ErrUsage, stderr: []string{"--user (from flag)"}},
		"publish to both":        {args: []string{"publish", "--user", "ada", "acme", "all", `{"type":"x"}`}, err: cli.ErrUsage, stderr: []string{"--user USER ORGANIZATION JSON"}},
		"mint a bad user":        {args: []string{"session", "mint", "a\nb"}, env: good, failed: true, code: 2},
		"publish foreign":        {args: []string{"publish", "acme", "all", `{"type":"x","organization_id":"globex"}`}, failed: true, code: 2},
		"publish no JSON":        {args: []string{"publish", "acme", "all", "hello"}, failed: true, code: 2},
		"publish to no group":    {args: []string{"publish", "acme", "ü", `{"type":"x"}`}, failed: true, code: 2},
		"publish for nobody":     {args: []string{"publish", "a:b", "all", `{"type":"x"}`}, failed: true, code: 2},
		"session without verb":   {args: []string{"session"}, env: good, err: cli.ErrUsage, stderr: []string{"session mint"}},
		"session without keys":   {args: []string{"session", "mint", "ada"}, err: cli.ErrUsage, stderr: []string{"--session-keys"}},
		"session for nobody":     {args: []string{"session", "mint", "a b"}, env: good, failed: true, code: 2},
		"session read":           {args: []string{"session", "read", value}, env: good, stdout: []string{"ada", "acme", "user.ada", "revoked       unknown"}},
		"session read, Django":   {args: []string{"session", "read", "3kx0vq8f2a7m1c9z5b6n4t0r8w2y6u1s"}, env: good, failed: true, says: []string{"a session key of Django", "--session-store=http", "docs/django.md"}},
		"session read, Express":  {args: []string{"session", "read", "connect.sid=s%3Ax.y"}, env: good, failed: true, says: []string{"no session", "a session key of Express", "docs/express.md"}},
		"session read, Redis":    {args: []string{"session", "read", strings.Repeat("A", 43)}, env: good, failed: true, says: []string{"--session-store=redis reads it"}},
		"check, Django's cookie": {args: []string{"check", "--session-cookie=sessionid"}, env: good, stdout: []string{"Warning: --session-cookie=sessionid with --session-store=cookie", "docs/django.md"}},
		"session read, no keys":  {args: []string{"session", "read", "x", "--session-store=redis", "--redis=redis://127.0.0.1:1"}, failed: true, says: []string{"session read: "}},
		"session read, wrong":    {args: []string{"session", "read", value + "x"}, env: good, failed: true},
		"healthcheck, nobody":    {args: []string{"healthcheck", "--admin-listen", "127.0.0.1:1"}, failed: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, err := execute(t, test.env, "", test.args...)
			if test.failed {
				if errors.As(err, new(cli.ExitError)) || err == nil {
					t.Errorf("got %v, want an error for main to print", err)
				}
				if got := cli.ExitCode(err); got != max(test.code, 1) {
					t.Errorf("exit code: got %d, want %d", got, max(test.code, 1))
				}
			} else if !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			for _, want := range test.stdout {
				if !strings.Contains(stdout, want) {
					t.Errorf("stdout does not tell of %q:\n%s", want, stdout)
				}
			}
			for _, want := range test.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr does not tell of %q:\n%s", want, stderr)
				}
			}
			for _, want := range test.says {
				if !strings.Contains(errorText(err), want) {
					t.Errorf("got the error %v, want it to tell of %q", err, want)
				}
			}
			if all := stdout + stderr + errorText(err); strings.Contains(all, "hush") || strings.Contains(all, testKey) {
				t.Errorf("a secret is shown:\n%s", all)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestPortInUse: a port that is taken is found out before anything has begun.
func TestPortInUse(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, _, err = execute(t, environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_LISTEN": "127.0.0.1:0", "ORGCAST_ADMIN_LISTEN": l.Addr().String()}, "", "serve")
	if err == nil || !strings.Contains(err.Error(), "--admin-listen: listen tcp "+l.Addr().String()) || !strings.Contains(err.Error(), "in use (try --admin-listen 127.0.0.1:") {
		t.Errorf("got %v, want that the address is in use, and which setting to change", err)
	}
}
