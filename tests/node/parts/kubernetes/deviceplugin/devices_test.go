package deviceplugin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// node is hardware of GPU-a, GPU-b and so on, with MIG devices as --mig-device gives them.
func node(t *testing.T, gpus int, migs ...string) *hardware {
	t.Helper()
	h := &hardware{product: "NVIDIA H200", family: "hopper", memoryMiB: 143771, migCapable: true}
	for i := range gpus {
		if err := h.addGPU("GPU-" + string(rune('a'+i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range migs {
		if err := h.addMIG(m); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func ids(r resource) []string {
	var ids []string
	for _, d := range r.devices {
		ids = append(ids, d.id)
	}
	return ids
}

func TestResourcesAndDeviceIDs(t *testing.T) {
	const twice = "resources: [{name: gpu, replicas: 2}]"
	mig := []string{"MIG-x=1g.18gb@GPU-a", "MIG-y=1g.18gb+me@GPU-a"}
	for name, test := range map[string]struct {
		hardware *hardware
		config   string
		want     string
	}{
		"not shared":                    {node(t, 2), "", "nvidia.com/gpu: GPU-a GPU-b"},
		"shared":                        {node(t, 2), slicing(twice), "nvidia.com/gpu: GPU-a::0 GPU-a::1 GPU-b::0 GPU-b::1"},
		"shared and renamed":            {node(t, 1), slicing("renameByDefault: true, " + twice), "nvidia.com/gpu.shared: GPU-a::0 GPU-a::1"},
		"shared by MPS":                 {node(t, 1), "sharing: {mps: {" + twice + "}}", "nvidia.com/gpu: GPU-a::0 GPU-a::1"},
		"another resource is shared":    {node(t, 1), slicing("resources: [{name: mig-1g.18gb, replicas: 2}]"), "nvidia.com/gpu: GPU-a"},
		"no GPU":                        {node(t, 0), slicing(twice), ""},
		"MIG under none":                {node(t, 2, mig...), "", "nvidia.com/gpu: GPU-a GPU-b"},
		"MIG under mixed":               {node(t, 2, mig...), "flags: {migStrategy: mixed}", "nvidia.com/gpu: GPU-b; nvidia.com/mig-1g.18gb: MIG-x; nvidia.com/mig-1g.18gb.me: MIG-y"},
		"MIG under mixed, sliced":       {node(t, 2, mig...), "flags: {migStrategy: mixed}\n" + slicing("renameByDefault: true, resources: [{name: mig-1g.18gb, replicas: 2}]"), "nvidia.com/gpu: GPU-b; nvidia.com/mig-1g.18gb.shared: MIG-x::0 MIG-x::1; nvidia.com/mig-1g.18gb.me: MIG-y"},
		"MIG under single":              {node(t, 1, mig[0], "MIG-z=1g.18gb"), "flags: {migStrategy: single}\n" + slicing(twice), "nvidia.com/gpu: MIG-x::0 MIG-x::1 MIG-z::0 MIG-z::1"},
		"MIG under single, two sorts":   {node(t, 1, mig...), "flags: {migStrategy: single}", "error: migStrategy single: this node has MIG devices of 1g.18gb and of 1g.18gb+me"},
		"MIG under single, one GPU not": {node(t, 3, mig[0]), "flags: {migStrategy: single}", "error: migStrategy single: 1 GPUs of this node are in MIG mode and 2 are not"},
		"single without MIG":            {node(t, 1), "flags: {migStrategy: single}", "nvidia.com/gpu: GPU-a"},
	} {
		t.Run(name, func(t *testing.T) {
			resources, err := advertised(test.hardware, mustParse(t, test.config))
			var got []string
			for _, r := range resources {
				got = append(got, fmt.Sprintf("%s: %s", r.name, strings.Join(ids(r), " ")))
			}
			if err != nil {
				got = append(got, "error: "+err.Error())
			}
			if all := strings.Join(got, "; "); all != test.want {
				t.Errorf("got  %s\nwant %s", all, test.want)
			}
		})
	}
}

func TestFlagsForDevices(t *testing.T) {
	h := node(t, 1)
	if err := h.addGPU("GPU-b=7"); err != nil || h.gpus[1].minor != 7 {
		t.Errorf("%v, %+v", err, h.gpus)
	}
	if err := h.addMIG("MIG-x=1g.18gb+me@GPU-b"); err != nil || h.migs[0].parent.minor != 7 {
		t.Errorf("%v, %+v", err, h.migs)
	}
	for _, bad := range []string{"", "a", "GPU-", "GPU-c=x", "GPU-c::0", "GPU-c,GPU-d", "GPU-a", "GPU-c=7", "MIG-x"} {
		if err := h.addGPU(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("--gpu %q: %v", bad, err)
		}
	}
	for _, bad := range []string{"MIG-y", "MIG-y=", "GPU-a=1g.18gb", "MIG-y=1g.18gb@GPU-z", "MIG-x=1g.18gb"} {
		if err := h.addMIG(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("--mig-device %q: %v", bad, err)
		}
	}
	extra, err := extraResource("slicewatch.test/nvml=2", h)
	if err != nil || extra.name != "slicewatch.test/nvml" || !slices.Equal(ids(extra), []string{"nvml-0", "nvml-1"}) || !slices.Equal(extra.devices[0].minors, []int{0, 7}) {
		t.Errorf("%v, %+v", err, extra)
	}
	for _, bad := range []string{"nvml=2", "slicewatch.test/nvml", "slicewatch.test/nvml=many", "nvidia.com/gpu=2"} {
		if _, err := extraResource(bad, h); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("--extra-resource %q: %v", bad, err)
		}
	}
}
