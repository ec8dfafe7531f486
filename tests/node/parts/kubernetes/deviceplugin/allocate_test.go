package deviceplugin

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// offer is the only resource of a node under a configuration.
func offer(t *testing.T, h *hardware, text string) resource {
	t.Helper()
	resources, err := advertised(h, mustParse(t, text))
	if err != nil || len(resources) != 1 {
		t.Fatalf("%v, %+v", err, resources)
	}
	return resources[0]
}

func TestPreferredAllocation(t *testing.T) {
	const four = "resources: [{name: gpu, replicas: 4}]"
	const packed = "flags: {plugin: {sharedDevicesAllocationPolicy: packed}}\n"
	for name, test := range map[string]struct {
		gpus     int
		config   string
		taken    string
		required string
		size     int
		want     string
	}{
		"distributed, one on each":            {3, slicing(four), "", "", 3, "a0 b0 c0"},
		"distributed, round again":            {2, slicing(four), "", "", 5, "a0 b0 a1 b1 a2"},
		"distributed, the emptiest first":     {3, slicing(four), "a0 a1 b0", "", 4, "c0 b1 c1 a2"},
		"distributed, equal ones take turns":  {2, slicing(four), "b0", "", 2, "a0 b1"},
		"distributed, all of one":             {1, slicing(four), "a1", "", 3, "a0 a2 a3"},
		"distributed beside what it must":     {2, slicing(four), "", "a3", 2, "a3 b0"},
		"packed, all on one":                  {2, packed + slicing(four), "", "", 4, "a0 a1 a2 a3"},
		"packed, the fullest first":           {3, packed + slicing(four), "b0 c0 c1", "", 3, "c2 c3 b1"},
		"packed, over the edge":               {2, packed + slicing(four), "", "", 5, "a0 a1 a2 a3 b0"},
		"packed beside what it must":          {2, packed + slicing(four), "", "b3", 2, "b3 b0"},
		"whole GPUs, the first ones":          {4, packed, "b", "", 2, "a c"},
		"whole GPUs beside what it must":      {4, "", "a", "d", 2, "d b"},
		"more than there are":                 {1, slicing(four), "a0 a1", "", 3, "error: nvidia.com/gpu: 3 asked for, 1 too many"},
		"a required one is no candidate, too": {1, slicing(four), "a0 a1", "a2", 3, "error: nvidia.com/gpu: 3 asked for, 1 too many"},
	} {
		t.Run(name, func(t *testing.T) {
			r := offer(t, node(t, test.gpus), test.config)
			var available []string
			for _, id := range ids(r) {
				if !slices.Contains(long(test.taken), id) {
					available = append(available, id)
				}
			}
			slices.Reverse(available) // the kubelet's order says nothing
			chosen, err := r.prefer(available, long(test.required), test.size)
			got := strings.NewReplacer("GPU-", "", "::", "").Replace(strings.Join(chosen, " "))
			if err != nil {
				got = "error: " + err.Error()
			}
			if !strings.HasPrefix(got, test.want) || err == nil && got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// long makes GPU-a::0 of a0, and GPU-a of a.
func long(short string) []string {
	var ids []string
	for _, s := range strings.Fields(short) {
		id := "GPU-" + s[:1]
		if len(s) > 1 {
			id += "::" + s[1:]
		}
		ids = append(ids, id)
	}
	return ids
}

func TestThousandsOfReplicasAreChosenQuickly(t *testing.T) {
	r := offer(t, node(t, 8), slicing("resources: [{name: gpu, replicas: 16384}]"))
	if chosen, err := r.prefer(ids(r), nil, 8); err != nil || len(chosen) != 8 {
		t.Errorf("%v, %v", err, chosen)
	}
}

func TestAllocate(t *testing.T) {
	const shared = "resources: [{name: gpu, replicas: 4}]"
	const strict = "failRequestsGreaterThanOne: true, " + shared
	for name, test := range map[string]struct {
		config, ids, want string
	}{
		"one replica":               {slicing(shared), "b2", "GPU-b"},
		"two replicas of one GPU":   {slicing(shared), "b2 b0", "GPU-b"},
		"three on two GPUs":         {slicing(shared), "a0 b3 a1", "GPU-a,GPU-b"},
		"whole GPUs":                {"", "b a", "GPU-b,GPU-a"},
		"one where two would fail":  {slicing(strict), "a0", "GPU-a"},
		"two that fail":             {slicing(strict), "a0 b0", "error: request for 'nvidia.com/gpu: 2' too large: maximum request size for shared resources is 1"},
		"two that fail, renamed":    {slicing("renameByDefault: true, " + strict), "a0 b0", "error: request for 'nvidia.com/gpu.shared: 2' too large: maximum request size for shared resources is 1"},
		"two by MPS":                {"sharing: {mps: {" + shared + "}}", "a0 b0", "error: request for 'nvidia.com/gpu: 2' too large: maximum request size for shared resources is 1"},
		"strict, but not shared":    {slicing("failRequestsGreaterThanOne: true, resources: [{name: mig-1g.18gb, replicas: 2}]"), "a b", "GPU-a,GPU-b"},
		"a replica of before":       {slicing(shared), "a7", "error: invalid allocation request for 'nvidia.com/gpu': unknown device: GPU-a::7"},
		"a whole GPU that is split": {slicing(shared), "a", "error: invalid allocation request for 'nvidia.com/gpu': unknown device: GPU-a"},
	} {
		t.Run(name, func(t *testing.T) {
			r := offer(t, node(t, 2), test.config)
			response, err := r.allocate(long(test.ids), &access{})
			got := ""
			if err != nil {
				got = "error: " + err.Error()
			} else {
				got = response.Envs["NVIDIA_VISIBLE_DEVICES"]
				if len(response.Devices)+len(response.Mounts) > 0 {
					t.Errorf("more than was asked for: %v", response)
				}
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestAllocateOnARealGPU(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{"dev/nvidiactl", "dev/nvidia-uvm", "dev/nvidia0", "dev/nvidia7", "driver/libcuda.so.1"} {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := node(t, 1)
	if err := h.addGPU("GPU-b=7"); err != nil {
		t.Fatal(err)
	}
	a := access{driverRoot: root, env: map[string]string{}}
	for _, err := range []error{
		a.addMount(root + "/driver:/usr/local/driver"),
		a.addEnv("LD_LIBRARY_PATH=/usr/local/driver:/lib=x"),
		a.addDevice("/dev/null"),
		a.check(h),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	extra, err := extraResource("slicewatch.test/nvml=2", h)
	if err != nil {
		t.Fatal(err)
	}
	// nvidia-uvm-tools is not there, so it is left out.
	for _, test := range []struct {
		resource resource
		ids      []string
		devices  string
		visible  string
		tells    bool
	}{
		{offer(t, h, sliced), long("b1"), "/dev/nvidiactl /dev/nvidia-uvm /dev/nvidia7 /dev/null", "GPU-b", true},
		{extra, []string{"nvml-1"}, "/dev/nvidiactl /dev/nvidia-uvm /dev/nvidia0 /dev/nvidia7 /dev/null", "", false},
	} {
		response, err := test.resource.allocate(test.ids, &a)
		if err != nil {
			t.Fatal(err)
		}
		var devices []string
		for _, d := range response.Devices {
			devices = append(devices, d.ContainerPath)
			if d.Permissions != "rw" || !strings.HasSuffix(d.HostPath, d.ContainerPath) {
				t.Errorf("%v", d)
			}
		}
		if got := strings.Join(devices, " "); got != test.devices {
			t.Errorf("devices %s, not %s", got, test.devices)
		}
		visible, tells := response.Envs["NVIDIA_VISIBLE_DEVICES"]
		if visible != test.visible || tells != test.tells || response.Envs["LD_LIBRARY_PATH"] != "/usr/local/driver:/lib=x" {
			t.Errorf("variables %v", response.Envs)
		}
		want := &api.Mount{HostPath: root + "/driver", ContainerPath: "/usr/local/driver", ReadOnly: true}
		if len(response.Mounts) != 1 || response.Mounts[0].String() != want.String() {
			t.Errorf("mounts %v", response.Mounts)
		}
	}
	if err := os.Remove(filepath.Join(root, "dev/nvidia7")); err != nil {
		t.Fatal(err)
	}
	if err := a.check(h); err == nil || !strings.Contains(err.Error(), "dev/nvidia7") {
		t.Errorf("a missing node: %v", err)
	}
	for _, bad := range []error{a.addMount("/a"), a.addMount("a:/b"), a.addEnv("=x"), a.addEnv("x"), a.addDevice("nvidia0")} {
		if bad == nil {
			t.Error("a bad flag was taken")
		}
	}
}
