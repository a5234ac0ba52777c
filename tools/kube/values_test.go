package kube

import (
	"strings"
	"testing"
)

// TestWrongValues: mistakes are refused before anything is sent to a cluster, with a message that
// names the value.
func TestWrongValues(t *testing.T) {
	for name, c := range map[string]struct {
		set  string
		want []string
	}{
		"no image":                  {"image.repository=", []string{"/image/repository", "minLength"}},
		"no tag":                    {"image.tag=", []string{"/image"}},
		"no origins":                {"config.origins=null", []string{"/config", "origins"}},
		"unknown value":             {"replica=3", []string{"'replica' not allowed"}},
		"unknown setting":           {"config.origin=x", []string{"/config", "'origin' not allowed"}},
		"setting of the chart":      {"config.admin-listen=:9091", []string{"'admin-listen' not allowed"}},
		"secret in the settings":    {"config.publish-key=x", []string{"'publish-key' not allowed"}},
		"password in a URL":         {`config.redis=redis://gateway:secret@redis:6379/0`, []string{"config.redis", "secrets.redis-password"}},
		"password in the other URL": {`config.redis-state=redis://:secret@redis:6379/0`, []string{"config.redis-state", "secrets.redis-state-password"}},
		"unknown secret":            {"secrets.publish-keys.secret=a", []string{"'publish-keys' not allowed"}},
		"secret without its key":    {"secrets.publish-key.secret=a", []string{"/secrets/publish-key", "'key'"}},
		"secret as text":            {"secrets.publish-key=abc", []string{"/secrets/publish-key"}},
		"not a duration":            {"config.drain=10", []string{"/config/drain"}},
		"too small":                 {"config.max-frame=1", []string{"/config/max-frame", "128"}},
		"secret in the environment": {"env.ORGCAST_PUBLISH_KEY=abc", []string{"/env", "ORGCAST_PUBLISH_KEY"}},
		"headers of OTLP":           {"env.OTEL_EXPORTER_OTLP_HEADERS=authorization=x", []string{"/env", "OTEL_EXPORTER_OTLP_HEADERS"}},
		"autoscaler":                {"autoscaling.by=vpa", []string{"/autoscaling/by", "'hpa'", "'keda'"}},
		"ingress without hosts":     {"ingress.hosts=null,ingress.enabled=true", []string{"/ingress", "'hosts'"}},
		"route without a gateway":   {"httpRoute.enabled=true", []string{"/httpRoute/parentRefs"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := run(t, "helm", "template", "orgcast", chart, "--kube-version", kubernetes, "--values", chart+"/examples/small.yaml", "--set", c.set)
			if err == nil {
				t.Fatalf("%s is accepted", c.set)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("%s: got\n%s\nwant %q", c.set, out, want)
				}
			}
		})
	}
}
