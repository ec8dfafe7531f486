package deviceplugin

import (
	"maps"
	"strings"
	"testing"
)

func TestNodeLabels(t *testing.T) {
	const four = "resources: [{name: gpu, replicas: 4}]"
	mig := []string{"MIG-x=1g.18gb", "MIG-y=1g.18gb", "MIG-z=2g.35gb"}
	base := "mig.capable=true mps.capable=false gpu.memory=143771 gpu.family=hopper "
	for name, test := range map[string]struct {
		hardware *hardware
		config   string
		want     string
	}{
		"not shared": {node(t, 2), "", base + "gpu.count=2 gpu.replicas=1 gpu.product=NVIDIA-H200 gpu.sharing-strategy=none"},
		"shared":     {node(t, 2), slicing(four), base + "gpu.count=2 gpu.replicas=4 gpu.product=NVIDIA-H200-SHARED gpu.sharing-strategy=time-slicing"},
		"renamed":    {node(t, 2), slicing("renameByDefault: true, " + four), base + "gpu.count=2 gpu.replicas=4 gpu.product=NVIDIA-H200 gpu.sharing-strategy=time-slicing"},
		"by MPS":     {node(t, 1), "sharing: {mps: {" + four + "}}", strings.Replace(base, "mps.capable=false", "mps.capable=true", 1) + "gpu.count=1 gpu.replicas=4 gpu.product=NVIDIA-H200-SHARED gpu.sharing-strategy=mps"},
		"no GPU":     {node(t, 0), slicing(four), ""},
		"MIG under none": {node(t, 1, mig...), slicing(four), base +
			"gpu.count=1 gpu.replicas=0 gpu.product=NVIDIA-H200 gpu.sharing-strategy=none"},
		"MIG under mixed": {node(t, 2, mig...), "flags: {migStrategy: mixed}\n" + slicing("resources: [{name: mig-1g.18gb, replicas: 3}]"), base +
			"gpu.count=2 gpu.replicas=1 gpu.product=NVIDIA-H200 gpu.sharing-strategy=none mig.strategy=mixed " +
			"mig-1g.18gb.count=2 mig-1g.18gb.replicas=3 mig-1g.18gb.product=NVIDIA-H200-MIG-1g.18gb-SHARED mig-1g.18gb.sharing-strategy=time-slicing " +
			"mig-2g.35gb.count=1 mig-2g.35gb.replicas=1 mig-2g.35gb.product=NVIDIA-H200-MIG-2g.35gb mig-2g.35gb.sharing-strategy=none"},
		"MIG under single": {node(t, 1, mig[:2]...), "flags: {migStrategy: single}\n" + slicing(four), "mig.capable=true mps.capable=false gpu.family=hopper " +
			"gpu.count=2 gpu.replicas=4 gpu.product=NVIDIA-H200-MIG-1g.18gb-SHARED gpu.sharing-strategy=time-slicing mig.strategy=single"},
	} {
		t.Run(name, func(t *testing.T) {
			want := map[string]string{}
			for _, pair := range strings.Fields(test.want) {
				key, value, _ := strings.Cut(pair, "=")
				want["nvidia.com/"+key] = value
			}
			got := nodeLabels(test.hardware, mustParse(t, test.config))
			if !maps.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			for key := range got {
				if !ownLabels.MatchString(key) {
					t.Errorf("%s would never be removed", key)
				}
			}
		})
	}
}

func TestLabelsAreWrittenOnceAndOnlyTheOwnOnesRemoved(t *testing.T) {
	nodeAPI := serveNode(t, map[string]string{
		"kubernetes.io/hostname":              "n",
		"nvidia.com/device-plugin.config":     "any",
		"nvidia.com/gpu.present":              "true",
		"nvidia.com/gpu.replicas":             "2",
		"nvidia.com/mig-1g.18gb.count":        "7",
		"nvidia.com/gpu.deploy.device-plugin": "true",
	})
	wanted := map[string]string{"nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.count": "1"}
	changed, err := writeLabels(t.Context(), nodeAPI.client, "n", wanted)
	if got := strings.Join(changed, " "); err != nil || got != "nvidia.com/gpu.count=1 nvidia.com/gpu.replicas=4 nvidia.com/mig-1g.18gb.count-" {
		t.Errorf("%v, %s", err, got)
	}
	want := map[string]string{
		"kubernetes.io/hostname":              "n",
		"nvidia.com/device-plugin.config":     "any",
		"nvidia.com/gpu.present":              "true",
		"nvidia.com/gpu.replicas":             "4",
		"nvidia.com/gpu.count":                "1",
		"nvidia.com/gpu.deploy.device-plugin": "true",
	}
	if got := nodeAPI.labels(); !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if changed, err := writeLabels(t.Context(), nodeAPI.client, "n", wanted); err != nil || changed != nil {
		t.Errorf("%v, %v", err, changed)
	}
	if _, err := writeLabels(t.Context(), nodeAPI.client, "other", wanted); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("%v", err)
	}
}
