package kube

import (
	"slices"
	"strings"
	"testing"
	"time"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	networking "k8s.io/api/networking/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// TestRoutes: an Ingress and an HTTPRoute lead the paths of the gateway, and no others, to the public
// Service, and neither ends a connection that is idle between two pings.
func TestRoutes(t *testing.T) {
	const idle = 60 * time.Second // docs/deploy.md
	ingress := one[networking.Ingress](template(t, "--values", chart+"/examples/small.yaml"))
	var paths []string
	for _, path := range ingress.Spec.Rules[0].HTTP.Paths {
		paths = append(paths, path.Path)
		if service := path.Backend.Service; service.Name != "orgcast" || service.Port.Name != "public" {
			t.Errorf("%s: got %+v", path.Path, service)
		}
	}
	if want := []string{"/ws", "/sse"}; !slices.Equal(paths, want) {
		t.Errorf("Ingress: got %q, want %q", paths, want)
	}
	found := 0
	for name, value := range ingress.Annotations {
		if !strings.Contains(name, "timeout") {
			continue
		}
		found++
		if d, err := time.ParseDuration(strings.TrimSuffix(value, "s") + "s"); err != nil || d < idle {
			t.Errorf("%s: got %s, %v, want at least %v", name, value, err, idle)
		}
	}
	if found == 0 {
		t.Error("Ingress: no time-out is set")
	}

	rule := one[gateway.HTTPRoute](template(t, "--values", chart+"/examples/large.yaml")).Spec.Rules[0]
	paths = nil
	for _, match := range rule.Matches {
		paths = append(paths, *match.Path.Value)
	}
	if want := []string{"/ws", "/sse", "/console"}; !slices.Equal(paths, want) {
		t.Errorf("HTTPRoute: got %q, want %q", paths, want)
	}
	if *rule.Timeouts.Request != "0s" || *rule.Timeouts.BackendRequest != "0s" { // 0s is none
		t.Errorf("HTTPRoute: got %+v", rule.Timeouts)
	}
	if backend := rule.BackendRefs[0]; backend.Name != "orgcast" || *backend.Port != 80 {
		t.Errorf("HTTPRoute: got %+v", backend)
	}
}

// TestAutoscaling: an autoscaler counts connections of the Deployment, whose number of pods is then its
// own business, and removes pods slowly.
func TestAutoscaling(t *testing.T) {
	hpa := template(t, "--values", chart+"/examples/large.yaml")
	spec := one[autoscaling.HorizontalPodAutoscaler](hpa).Spec
	if metric := spec.Metrics[0].Pods; metric.Metric.Name != "orgcast_connections" || metric.Target.AverageValue.Value() != 8000 {
		t.Errorf("HorizontalPodAutoscaler: got %+v", metric)
	}
	scaled := template(t, "--values", chart+"/examples/keda.yaml")
	object := one[keda.ScaledObject](scaled).Spec
	if query := object.Triggers[0].Metadata["query"]; query != `sum(orgcast_connections{namespace="web", service="orgcast-private"})` {
		t.Errorf("ScaledObject: got %s", query)
	}
	for name, target := range map[string]string{"HorizontalPodAutoscaler": spec.ScaleTargetRef.Name, "ScaledObject": object.ScaleTargetRef.Name} {
		if target != one[apps.Deployment](hpa).Name {
			t.Errorf("%s: got %s", name, target)
		}
	}
	for name, policy := range map[string]*autoscaling.HPAScalingRules{
		"HorizontalPodAutoscaler": spec.Behavior.ScaleDown, "ScaledObject": object.Advanced.HorizontalPodAutoscalerConfig.Behavior.ScaleDown,
	} {
		if len(policy.Policies) != 1 || policy.Policies[0].Value != 1 || policy.Policies[0].PeriodSeconds < 300 {
			t.Errorf("%s: got %+v", name, policy)
		}
	}
	for _, r := range []release{hpa, scaled} {
		if replicas := one[apps.Deployment](r).Spec.Replicas; replicas != nil {
			t.Errorf("replicas: got %d, want none, or every upgrade would set them back", *replicas)
		}
	}
	if got := *one[apps.Deployment](template(t, "--values", chart+"/examples/small.yaml")).Spec.Replicas; got != 2 {
		t.Errorf("replicas: got %d, want 2", got)
	}
}
