// Package packaging checks what ships around the command, without a Docker engine.
package packaging

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// load reads the docker-compose.yml of a directory with every profile: schema, interpolation and consistency are checked by the reference loader.
func load(t *testing.T, directory ...string) *types.Project {
	t.Helper()
	directory = append([]string{repository(t)}, directory...)
	file := filepath.Join(append(directory, "docker-compose.yml")...)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir: filepath.Dir(file), ConfigFiles: []types.ConfigFile{{Filename: file, Content: text}}, Environment: types.Mapping{},
	}, func(o *loader.Options) { o.Profiles = []string{"*"} })
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeFileFollowsTheSpecification(t *testing.T) {
	project := load(t)
	hub := project.Services["hub"]
	if hub.HealthCheck == nil || strings.Join(hub.HealthCheck.Test, " ") != "CMD /emulator healthcheck" {
		t.Errorf("health check of the hub: %+v", hub.HealthCheck)
	}
	if network := hub.Networks["default"]; network == nil || len(network.Aliases) != 1 || network.Aliases[0] != "iolite.azure-devices.net" {
		t.Errorf("network of the hub: %+v", hub.Networks)
	}
	for _, p := range hub.Ports {
		if p.HostIP != "127.0.0.1" {
			t.Errorf("port %d is published to %q", p.Target, p.HostIP)
		}
	}
}

func TestComposeExampleWaitsForAHealthyHubAndSharesTheCA(t *testing.T) {
	project := load(t)
	sharesTheCA(t, project, "device", "reader")
}

func TestComposeSolutionWaitsForAHealthyHubAndSharesTheCA(t *testing.T) {
	project := load(t, "examples", "solution")
	sharesTheCA(t, project, "devices", "processor", "backend")
	for name, s := range project.Services {
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("port %d of %s is published to %q", p.Target, name, p.HostIP)
			}
		}
		for _, v := range s.Volumes {
			if _, err := os.Stat(v.Source); v.Type == types.VolumeTypeBind && err != nil {
				t.Errorf("%s mounts what is not there: %v", name, err)
			}
		}
	}
}

// sharesTheCA checks that services wait for the hub, and find its CA.
func sharesTheCA(t *testing.T, project *types.Project, names ...string) {
	t.Helper()
	for _, name := range names {
		s := project.Services[name]
		if s.DependsOn["hub"].Condition != types.ServiceConditionHealthy {
			t.Errorf("%s waits for %+v", name, s.DependsOn["hub"])
		}
		mounted := false
		for _, v := range s.Volumes {
			mounted = mounted || v.Source == "certs" && v.Target == "/certs" && v.ReadOnly
		}
		if !mounted {
			t.Errorf("%s does not mount the CA read-only: %+v", name, s.Volumes)
		}
	}
}
