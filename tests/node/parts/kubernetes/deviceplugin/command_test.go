package deviceplugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheCommandLine(t *testing.T) {
	t.Setenv("NODE_NAME", "")
	for name, test := range map[string]struct{ line, says string }{
		"bad GPU":                    {"--gpu H200", `--gpu "H200"`},
		"bad MIG device":             {"--gpu GPU-a --mig-device 1g.18gb", `--mig-device "1g.18gb"`},
		"MIG device without GPU":     {"--mig-device MIG-x=1g.18gb", "no --gpu"},
		"bad extra resource":         {"--extra-resource nvml", `--extra-resource "nvml"`},
		"bad mount":                  {"--mount /usr/lib", `--mount "/usr/lib"`},
		"mount that is not there":    {"--mount /nonexistent-folder:/x", "/nonexistent-folder"},
		"driver that is not there":   {"--gpu GPU-a --driver-root /nonexistent-folder", "/nonexistent-folder/dev/nvidiactl"},
		"bad variable":               {"--env PATH", `--env "PATH"`},
		"file and folder":            {"--config-file /f --config-dir /d", "give one of them"},
		"default without folder":     {"--default-config any", "--config-dir"},
		"labels without node":        {"--node-labels", "--node-name"},
		"kubeconfig not there":       {"--node-labels --node-name n --kubeconfig /nonexistent-folder/k", "/nonexistent-folder/k"},
		"file not there":             {"--config-file /nonexistent-folder/any", "/nonexistent-folder/any"},
		"unknown strategy":           {"--mig-strategy many", `"many"`},
		"unknown policy":             {"--shared-devices-allocation-policy random", `"random"`},
		"something beside the flags": {"now", "now"},
	} {
		t.Run(name, func(t *testing.T) {
			command := NewCommand()
			command.SetArgs(append([]string{"--kubelet-dir", t.TempDir()}, strings.Fields(test.line)...))
			command.SilenceErrors = true
			if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("said %v, not %q", err, test.says)
			}
		})
	}
}

func TestAllFlagsTogether(t *testing.T) {
	root, files := t.TempDir(), configs(t, map[string]string{"any": sliced})
	if err := os.Mkdir(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nvidiactl", "nvidia3"} {
		write(t, filepath.Join(root, "dev", name), "")
	}
	o := options{
		kubeletDir: "/k", gpus: []string{"GPU-a=3"}, migs: []string{"MIG-x=1g.18gb"}, extras: []string{"slicewatch.test/nvml=2"},
		driverRoot: root, mounts: []string{root + ":/x"}, envs: []string{"A=b"}, devices: []string{"/dev/null"},
		configDir: files, defaultConfig: "any", fallbacks: []string{fallbackEmpty}, migStrategy: migMixed, allocationPolicy: policyPacked,
	}
	p, err := o.plugin()
	if err != nil {
		t.Fatal(err)
	}
	if p.folder != "/k/device-plugins" || len(p.extras) != 1 || *p.migStrategy != migMixed || *p.policy != policyPacked || p.selector.fallback != "any" || p.client != nil {
		t.Errorf("%+v", p)
	}
}
