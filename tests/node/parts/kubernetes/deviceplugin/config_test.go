package deviceplugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sliced = `version: v1
flags:
  migStrategy: none
sharing:
  timeSlicing:
    renameByDefault: false
    failRequestsGreaterThanOne: true
    resources:
      - name: nvidia.com/gpu
        replicas: 4
`

func mustParse(t *testing.T, text string) *config {
	t.Helper()
	c, err := parseConfig([]byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if err := c.settle(nil, nil); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return c
}

// slicing is the configuration whose sharing.timeSlicing has these flow-style keys.
func slicing(keys string) string { return "version: v1\nsharing: {timeSlicing: {" + keys + "}}\n" }

func TestConfigurationsThatAreTaken(t *testing.T) {
	const four = "resources: [{name: nvidia.com/gpu, replicas: 4}]"
	for name, test := range map[string]struct {
		text     string
		strategy string
		replicas int // of nvidia.com/gpu
		name     resourceName
		fails    bool
		warning  string
	}{
		"the page's":                   {sliced, strategyTimeSlicing, 4, "nvidia.com/gpu", true, ""},
		"empty":                        {"", strategyNone, 0, "nvidia.com/gpu", false, ""},
		"no version":                   {strings.TrimPrefix(sliced, "version: v1\n"), strategyTimeSlicing, 4, "nvidia.com/gpu", true, ""},
		"renamed":                      {slicing("renameByDefault: true, " + four), strategyTimeSlicing, 4, "nvidia.com/gpu.shared", false, ""},
		"rename under flags":           {"flags: {renameByDefault: true}\n" + slicing(four), strategyTimeSlicing, 4, "nvidia.com/gpu", false, ""},
		"unknown keys":                 {"more: [1]\n" + slicing("also: {a: b}, "+four), strategyTimeSlicing, 4, "nvidia.com/gpu", false, ""},
		"keys in another case":         {slicing("RenameByDefault: true, " + four), strategyTimeSlicing, 4, "nvidia.com/gpu", false, ""},
		"bare name":                    {slicing("resources: [{name: gpu, replicas: 4}]"), strategyTimeSlicing, 4, "nvidia.com/gpu", false, ""},
		"a rename":                     {slicing("resources: [{name: gpu, replicas: 4, rename: shared-gpu}]"), strategyTimeSlicing, 4, "nvidia.com/gpu", false, "resources[0]: rename is not supported"},
		"some devices":                 {slicing("resources: [{name: gpu, replicas: 4, devices: [0, '1:0']}]"), strategyTimeSlicing, 4, "nvidia.com/gpu", false, "resources[0]: devices is not supported"},
		"all devices":                  {slicing("resources: [{name: gpu, replicas: 4, devices: all}]"), strategyTimeSlicing, 4, "nvidia.com/gpu", false, ""},
		"mebibytes as replicas":        {slicing("resources: [{name: gpu, replicas: 16384}]"), strategyTimeSlicing, 16384, "nvidia.com/gpu", false, ""},
		"mps":                          {"sharing: {mps: {" + four + "}}", strategyMPS, 4, "nvidia.com/gpu", true, ""},
		"mps that allows more":         {"sharing: {mps: {failRequestsGreaterThanOne: false, " + four + "}}", strategyMPS, 4, "nvidia.com/gpu", false, ""},
		"mps beside time-slicing wins": {"sharing: {timeSlicing: {resources: [{name: gpu, replicas: 9}]}, mps: {" + four + "}}", strategyMPS, 4, "nvidia.com/gpu", true, "mps is in force"},
		"renaming by product":          {"resources: {gpus: [{pattern: '*', name: x}]}\n" + sliced, strategyTimeSlicing, 4, "nvidia.com/gpu", true, "renaming by product"},
		"as JSON":                      {`{"version":"v1","sharing":{"timeSlicing":{"resources":[{"name":"gpu","replicas":4}]}}}`, strategyTimeSlicing, 4, "nvidia.com/gpu", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustParse(t, test.text)
			if c.strategy() != test.strategy {
				t.Errorf("strategy %s, not %s", c.strategy(), test.strategy)
			}
			replicas := 0
			if shared := c.replicasOf(gpuResource); shared != nil {
				replicas = shared.Replicas
			}
			if replicas != test.replicas {
				t.Errorf("%d replicas, not %d", replicas, test.replicas)
			}
			if got := c.inForce().advertisedName(gpuResource); got != test.name {
				t.Errorf("name %s, not %s", got, test.name)
			}
			if c.failsMoreThanOne() != test.fails {
				t.Errorf("fails requests above one: %v", c.failsMoreThanOne())
			}
			warnings := strings.Join(c.warnings, "\n")
			if (test.warning == "") != (warnings == "") || !strings.Contains(warnings, test.warning) {
				t.Errorf("warnings %q, not %q", warnings, test.warning)
			}
		})
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	for name, test := range map[string]struct{ text, says string }{
		"one replica":         {slicing("resources: [{name: gpu, replicas: 1}]"), "replicas of nvidia.com/gpu is 1"},
		"negative replicas":   {slicing("resources: [{name: gpu, replicas: -4}]"), "is -4"},
		"replicas as text":    {slicing("resources: [{name: gpu, replicas: four}]"), "replicas"},
		"no replicas":         {slicing("resources: [{name: gpu}]"), "without replicas"},
		"no name":             {slicing("resources: [{replicas: 4}]"), "without name"},
		"empty name":          {slicing("resources: [{name: '', replicas: 4}]"), `resource name "nvidia.com/"`},
		"name in capitals":    {slicing("resources: [{name: GPU, replicas: 4}]"), `resource name "nvidia.com/GPU"`},
		"name too long":       {slicing("resources: [{name: " + strings.Repeat("g", 60) + ", replicas: 4}]"), "longer than 63"},
		"no resources":        {slicing("renameByDefault: true"), "no resources given"},
		"empty resources":     {slicing("resources: []"), "no resources given"},
		"null time-slicing":   {"sharing: {timeSlicing: null}", "no resources given"},
		"version 2":           {"version: v2", `unknown version "v2"`},
		"devices none":        {slicing("resources: [{name: gpu, replicas: 4, devices: none}]"), "devices is"},
		"no device":           {slicing("resources: [{name: gpu, replicas: 4, devices: 0}]"), "devices is 0"},
		"strange device":      {slicing("resources: [{name: gpu, replicas: 4, devices: [x]}]"), "devices is"},
		"rename as number":    {slicing("resources: [{name: gpu, replicas: 4, rename: 7}]"), "rename"},
		"boolean as text":     {slicing("renameByDefault: 'yes', resources: [{name: gpu, replicas: 4}]"), "renameByDefault"},
		"a list":              {"- version: v1", "cannot unmarshal"},
		"a tab":               {"sharing:\n\ttimeSlicing: {}", "yaml"},
		"migStrategy unknown": {"flags: {migStrategy: many}", `unknown migStrategy "many"`},
		"policy unknown":      {"flags: {plugin: {sharedDevicesAllocationPolicy: random}}", `"random"`},
		"mps with mixed":      {"flags: {migStrategy: mixed}\nsharing: {mps: {resources: [{name: gpu, replicas: 2}]}}", "mixed is not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := parseConfig([]byte(test.text))
			if err == nil {
				err = c.settle(nil, nil)
			}
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("said %v, not %q", err, test.says)
			}
		})
	}
}

func TestTheCommandLineWinsOverTheFile(t *testing.T) {
	c, err := parseConfig([]byte("flags: {migStrategy: mixed, plugin: {sharedDevicesAllocationPolicy: packed}}"))
	if err != nil {
		t.Fatal(err)
	}
	single, distributed := migSingle, policyDistributed
	if err := c.settle(nil, nil); err != nil || c.migStrategy() != migMixed || c.allocationPolicy() != policyPacked {
		t.Errorf("the file's: %v, %s, %s", err, c.migStrategy(), c.allocationPolicy())
	}
	if err := c.settle(&single, &distributed); err != nil || c.migStrategy() != migSingle || c.allocationPolicy() != policyDistributed {
		t.Errorf("the command line's: %v, %s, %s", err, c.migStrategy(), c.allocationPolicy())
	}
}

func TestAnErrorNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "any")
	for _, content := range []string{"", "version: v9"} {
		if content != "" {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := loadConfig(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", content, err)
		}
	}
}
