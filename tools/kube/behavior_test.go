package kube

import (
	"cmp"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
)

// unpack writes the pod's files into a folder, and returns the path of the settings file there. A
// secret has a content that the gateway accepts; one that no volume mounts is missing.
func unpack(t *testing.T, r release) string {
	t.Helper()
	dir := t.TempDir()
	spec, container := r.pod()
	write := func(path, text string) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mounted := make(map[string]string) // volume → path
	for _, m := range container.VolumeMounts {
		mounted[m.Name] = m.MountPath
	}
	for _, volume := range spec.Volumes {
		at, ok := mounted[volume.Name]
		switch {
		case !ok:
			t.Errorf("volume %s is not mounted", volume.Name)
		case volume.ConfigMap != nil:
			for name, text := range one[core.ConfigMap](r).Data {
				write(filepath.Join(at, name), strings.ReplaceAll(text, "/run/secrets/", dir+"/run/secrets/"))
			}
		case volume.Projected != nil:
			for _, source := range volume.Projected.Sources {
				for _, item := range source.Secret.Items {
					write(filepath.Join(at, item.Path), secret(item.Path))
				}
			}
		default:
			t.Errorf("volume %s: neither a ConfigMap nor secrets", volume.Name)
		}
	}
	return filepath.Join(dir, "etc/orgcast/orgcast.yaml")
}

// secret returns what the gateway accepts in a file of this name.
func secret(name string) string {
	switch {
	case strings.HasSuffix(name, "-ca"):
		return certificates
	case name == "billing":
		return "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	default:
		return name + strings.Repeat("x", 32) // they must differ
	}
}

// effective returns the settings that the gateway has with the pod's files and arguments.
func effective(t *testing.T, r release) map[string]string {
	t.Helper()
	_, container := r.pod()
	args := []string{"check", "--config", unpack(t, r)}
	for _, arg := range container.Args {
		switch name, _, _ := strings.Cut(arg, "="); name {
		case "serve", "--config":
		default:
			args = append(args, arg)
		}
	}
	out, err := run(t, "gateway", args...)
	if err != nil || !strings.Contains(out, "No mistakes found.") {
		t.Fatalf("gateway %q: %v\n%s", args, err, out)
	}
	found := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+) +(\S+) `).FindAllStringSubmatch(out, -1) {
		found[m[1]] = m[2]
	}
	return found
}

// TestSettingsOfExamples: the gateway starts with the settings of each example, its kubelet asks
// the port that it listens at, and it has time to stop.
func TestSettingsOfExamples(t *testing.T) {
	for _, path := range examples(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			r := template(t, "--values", path)
			got := effective(t, r)
			spec, container := r.pod()

			ports := make(map[string]string)
			for _, port := range container.Ports {
				ports[port.Name] = strconv.Itoa(int(port.ContainerPort))
			}
			if got["listen"] != ":"+ports["public"] || got["admin-listen"] != ":"+ports["private"] {
				t.Errorf("ports %v: got listeners %s and %s", ports, got["listen"], got["admin-listen"])
			}
			for name, probe := range map[string]*core.Probe{"/readyz": container.ReadinessProbe, "/healthz": container.LivenessProbe} {
				if probe.HTTPGet.Port.StrVal != "private" || probe.HTTPGet.Path != name || probe.HTTPGet.Host != "" {
					t.Errorf("%s: got %+v", name, probe.HTTPGet)
				}
			}

			stop := 10 * time.Second
			for _, name := range []string{"drain-wait", "drain", "close-timeout", "hook-timeout"} {
				d, err := time.ParseDuration(got[name])
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				stop += d
			}
			want := int64(math.Ceil(stop.Seconds())) + container.Lifecycle.PreStop.Sleep.Seconds
			if grace := *spec.TerminationGracePeriodSeconds; grace != want {
				t.Errorf("terminationGracePeriodSeconds: got %d, want %d", grace, want)
			}
		})
	}
}

// TestGracePeriod: every way to write a duration counts.
func TestGracePeriod(t *testing.T) {
	for set, want := range map[string]int64{
		"preStopSeconds=0": 37,
		"config.drain=0":   32,
		"config.drain=0s":  32,
		"config.drain=1m30s,config.drain-wait=500ms":               121,
		"config.drain=.5s,config.hook-timeout=+1h0m1.5s":           3624,
		"config.close-timeout=1500us,preStopSeconds=30":            63,
		"config.drain-wait=0s,config.drain=0s,preStopSeconds=0":    25,
		"config.drain-wait=1ms,config.drain=1ns,preStopSeconds=20": 46,
	} {
		r := template(t, "--values", chart+"/examples/small.yaml", "--set", set)
		if spec, container := r.pod(); *spec.TerminationGracePeriodSeconds != want {
			t.Errorf("%s: got %d, want %d", set, *spec.TerminationGracePeriodSeconds, want)
		} else if strings.Contains(set, "preStopSeconds=0") && container.Lifecycle != nil {
			t.Errorf("%s: got %+v", set, container.Lifecycle)
		}
	}
}

// TestConfined: pods have no rights that they do not use, and a rollout never lacks a pod.
func TestConfined(t *testing.T) {
	for _, path := range examples(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			r := template(t, "--values", path)
			spec, container := r.pod()
			for what, ok := range map[string]bool{
				"no token":                 spec.AutomountServiceAccountToken != nil && !*spec.AutomountServiceAccountToken && !*one[core.ServiceAccount](r).AutomountServiceAccountToken,
				"no service links":         spec.EnableServiceLinks != nil && !*spec.EnableServiceLinks,
				"seccomp":                  spec.SecurityContext.SeccompProfile.Type == core.SeccompProfileTypeRuntimeDefault,
				"numeric user":             *container.SecurityContext.RunAsUser > 0 && *container.SecurityContext.RunAsNonRoot,
				"read-only root":           *container.SecurityContext.ReadOnlyRootFilesystem,
				"no privilege escalation":  !*container.SecurityContext.AllowPrivilegeEscalation,
				"no capabilities":          len(container.SecurityContext.Capabilities.Drop) == 1 && container.SecurityContext.Capabilities.Drop[0] == "ALL" && len(container.SecurityContext.Capabilities.Add) == 0,
				"memory limit":             !container.Resources.Limits.Memory().IsZero(),
				"spread":                   len(spec.TopologySpreadConstraints) > 0,
				"no host network or ports": !spec.HostNetwork && container.Ports[0].HostPort == 0 && container.Ports[1].HostPort == 0,
				"no pod less in a rollout": one[apps.Deployment](r).Spec.Strategy.RollingUpdate.MaxUnavailable.IntVal == 0,
			} {
				if !ok {
					t.Errorf("%s: missing", what)
				}
			}
		})
	}
}

// TestSecretsAreFiles: nothing secret is in the environment, the arguments or the ConfigMap, and
// each secret is one file that only the pod's user can read.
func TestSecretsAreFiles(t *testing.T) {
	r := template(t, "--values", chart+"/examples/large.yaml")
	spec, container := r.pod()
	for _, variable := range container.Env {
		if variable.ValueFrom != nil || strings.HasPrefix(variable.Name, "ORGCAST_") {
			t.Errorf("environment: %+v", variable)
		}
	}
	if len(container.EnvFrom) != 0 {
		t.Errorf("environment: %+v", container.EnvFrom)
	}
	got := effective(t, r) // would miss a file that is not mounted
	files := 0
	for _, volume := range spec.Volumes {
		if volume.Projected == nil {
			continue
		}
		if *volume.Projected.DefaultMode != 0o440 {
			t.Errorf("%s: mode %o", volume.Name, *volume.Projected.DefaultMode)
		}
		for _, source := range volume.Projected.Sources {
			name := source.Secret.Items[0].Path
			if volume.Name == "secrets" && !strings.HasSuffix(cmp.Or(got[name+"-file"], got[name]), "/run/secrets/orgcast/"+name) {
				t.Errorf("%s: mounted, but got the setting %q", name, got[name+"-file"])
			}
			files++
		}
	}
	if want := 10; files != want {
		t.Errorf("got %d files, want %d", files, want)
	}
}

// TestSettingsRestartPods: a change of the settings or routes makes new pods, and nothing else does.
func TestSettingsRestartPods(t *testing.T) {
	sum := func(set string) string {
		r := template(t, "--values", chart+"/examples/large.yaml", "--set", set)
		return one[apps.Deployment](r).Spec.Template.Annotations["checksum/config"]
	}
	first := sum("autoscaling.maxReplicas=21")
	if sum("autoscaling.maxReplicas=22") != first {
		t.Error("new pods without a new setting")
	}
	for _, set := range []string{"config.max-frame=70000", "routes=version: 1"} {
		if sum(set) == first {
			t.Errorf("%s: no new pods", set)
		}
	}
}

// TestPrivatePort: no policy lets everyone reach the private port, whatever the values are, and the
// public Service does not have it.
func TestPrivatePort(t *testing.T) {
	for _, set := range []string{"replicas=1", "networkPolicy.monitoringNamespaces=null", "networkPolicy.monitoringNamespaces=[]", "networkPolicy.privateFrom=[]"} {
		r := template(t, "--values", chart+"/examples/small.yaml", "--set-json", set)
		spec := one[networking.NetworkPolicy](r).Spec
		for _, rule := range spec.Ingress {
			if len(rule.Ports) != 1 || rule.Ports[0].Port.StrVal != "public" && len(rule.From) == 0 {
				t.Errorf("%s: everyone may reach %+v", set, rule.Ports)
			}
		}
		for _, service := range all[core.Service](r) {
			for _, port := range service.Spec.Ports {
				if headless := service.Spec.ClusterIP == core.ClusterIPNone; headless != (port.TargetPort.StrVal == "private") {
					t.Errorf("%s: got port %+v", service.Name, port)
				}
			}
		}
	}
	r := template(t, "--values", chart+"/examples/large.yaml")
	rules := one[networking.NetworkPolicy](r).Spec.Ingress
	if len(rules) != 2 || len(rules[0].From) != 1 || len(rules[1].From) != 2 {
		t.Errorf("got %+v", rules)
	}
}
