//go:build provoke

package deploy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// duration matches where rules.yaml has durations: for, interval, and the ranges of expressions.
var duration = regexp.MustCompile(`(?m)(^ *(?:for|interval): |\[|:)(\d+[smhd])(\]|$|:)`)

// faster returns the rules with all durations 60 times shorter, so that minutes pass in seconds.
func faster(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	shorten := func(match string) string {
		m := duration.FindStringSubmatch(match)
		d, err := time.ParseDuration(strings.Replace(m[2], "1d", "24h", 1))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s%dms%s", m[1], (d / 60).Milliseconds(), m[3])
	}
	short := string(text)
	for range 2 { // the second time for the step of [10m:30s], which shares its colon with the first
		short = duration.ReplaceAllStringFunc(short, shorten)
	}
	return short
}

// prometheus is a running Prometheus that evaluates the rules.
type prometheus struct {
	t    *testing.T
	addr string
}

// startPrometheus starts a Prometheus that scrapes the private listener of a gateway.
func startPrometheus(t *testing.T, target string) *prometheus {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}\nrule_files: [rules.yaml]\n"+
		"scrape_configs:\n  - job_name: orgcast\n    static_configs: [{targets: [%q]}]\n", target)
	for name, text := range map[string]string{"prometheus.yml": config, "rules.yaml": faster(t)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &prometheus{t: t, addr: testkit.FreeAddress(t)}
	log := new(testkit.SyncBuffer)
	cmd := exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+p.addr)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it is told to end
		if t.Failed() {
			t.Logf("prometheus: %s", log.String())
		}
	})
	testkit.Eventually(t, "Prometheus has scraped a ready gateway", func() bool {
		return strings.Contains(p.get("/api/v1/query?query="+url.QueryEscape("orgcast_ready == 1")), target)
	})
	return p
}

// get returns an answer of the API, "" while there is none.
func (p *prometheus) get(path string) string {
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.addr+path, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	var text json.RawMessage
	if json.NewDecoder(response.Body).Decode(&text) != nil {
		return ""
	}
	return string(text)
}

// firing returns the descriptions of the alerts that fire, by name.
func (p *prometheus) firing() map[string]string {
	var answer struct {
		Data struct {
			Alerts []struct {
				Labels, Annotations map[string]string
				State               string
			}
		}
	}
	if err := json.Unmarshal([]byte(p.get("/api/v1/alerts")), &answer); err != nil {
		return map[string]string{"no answer": err.Error()}
	}
	firing := make(map[string]string)
	for _, a := range answer.Data.Alerts {
		if a.State == "firing" {
			firing[a.Labels["alertname"]] = a.Annotations["description"]
		}
	}
	return firing
}

// await waits until an alert fires, with what its description must hold, or does not fire.
func (p *prometheus) await(alert string, fires bool, text string) {
	p.t.Helper()
	began := time.Now()
	testkit.Eventually(p.t, fmt.Sprintf("%s fires: %t", alert, fires), func() bool {
		description, got := p.firing()[alert]
		if got && !strings.Contains(description, text) {
			p.t.Fatalf("%s: description: got %q, want %q in it", alert, description, text)
		}
		return got == fires
	})
	p.t.Logf("%s: fires: %t, after %v", alert, fires, time.Since(began).Round(10*time.Millisecond))
}

// TestProvokedAlerts: a running Prometheus raises the alerts when their faults happen to a running gateway,
// and takes them back when all is well again.
func TestProvokedAlerts(t *testing.T) {
	const keys = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	server := redistest.StartServer(t)
	s := &site{t: t}
	s.run([]string{
		"ORGCAST_REDIS=redis://" + server.Addr, "ORGCAST_SESSION_KEYS=" + keys, "ORGCAST_DIRECTORY=session", "ORGCAST_ORIGINS=" + origin, "ORGCAST_MAX_CONNECTIONS=1",
		"ORGCAST_LISTEN=127.0.0.1:0", "ORGCAST_ADMIN_LISTEN=127.0.0.1:0", "ORGCAST_DRAIN_WAIT=0s", "ORGCAST_DRAIN=0s",
	})
	testkit.Eventually(t, "ready, and the control channel heard", func() bool {
		status, _ := s.ask("GET", "/readyz", "")
		_, metrics := s.ask("GET", "/metrics", "")
		return status == http.StatusOK && strings.Contains(metrics, "orgcast_control_up 1")
	})
	mint := exec.CommandContext(t.Context(), "go", "run", "orgcast/cmd/gateway", "session", "mint", "ada", "acme")
	mint.Env = append(os.Environ(), "ORGCAST_SESSION_KEYS="+keys)
	minted, err := mint.Output()
	if err != nil {
		t.Fatal(err)
	}
	name, value, _ := strings.Cut(strings.TrimSpace(string(minted)), "=")
	cookie := &http.Cookie{Name: name, Value: value}
	c := s.enter("/ws/events", cookie)
	next(t, c, "welcome")
	say(t, c, `{"type":"subscribe","group":"all"}`)
	next(t, c, "subscribed")

	p := startPrometheus(t, s.private)
	if firing := p.firing(); len(firing) > 0 {
		t.Fatalf("before any fault: got %v", firing)
	}
	server.Stop()
	p.await("OrgcastNotReady", true, s.private)
	server.Restart()
	next(t, c, "gap")
	p.await("OrgcastGaps", true, s.private)
	p.await("OrgcastNotReady", false, "")
	p.await("OrgcastGaps", false, "")

	if status := s.handshake(cookie); status != http.StatusServiceUnavailable {
		t.Fatalf("a second connection of a node for one: got %d, want 503", status)
	}
	p.await("OrgcastRefuses", true, "overloaded")
	p.await("OrgcastRefuses", false, "")
	testkit.Eventually(t, "no alert fires", func() bool { return len(p.firing()) == 0 })
}

// handshake returns the status of a handshake.
func (s *site) handshake(cookie *http.Cookie) int {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.public+"/ws/events", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Origin": origin, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		request.Header.Set(name, value)
	}
	request.AddCookie(cookie)
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}
