package deviceplugin

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// access is what a container gets besides the name of its device, where no runtime of NVIDIA's adds it.
type access struct {
	// The host's root for device nodes; empty: no device nodes are given.
	driverRoot string
	devices    []string
	mounts     []*api.Mount
	env        map[string]string
}

// The nodes that every user of any GPU needs.
var controlNodes = []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"}

// prefer chooses `size` of the available devices, the required ones among them.
//
// Read in NVIDIA's source: replicas are chosen one by one, from the GPU with the fewest replicas in use
// (distributed) or the most (packed); where two GPUs are equal, from the one that gave fewer to this
// container. Whole GPUs are there chosen by how they are linked; here the first ones are, since what
// links them is not known.
func (r *resource) prefer(available, required []string, size int) ([]string, error) {
	free, kept := sets.New(available...), sets.New(required...)
	used, given := map[string]int{}, map[string]int{}
	// In the plugin's own order, so that the choice does not depend on the kubelet's.
	var candidates []string
	for _, d := range r.devices {
		if free.Has(d.id) && !kept.Has(d.id) {
			candidates = append(candidates, d.id)
		} else {
			used[d.physical()]++
		}
	}
	chosen := slices.Clone(required)
	for _, id := range required {
		given[physicalID(id)]++
	}
	if missing := size - len(chosen) - len(candidates); missing > 0 {
		return nil, fmt.Errorf("%s: %d asked for, %d too many for what is free", r.name, size, missing)
	}
	better := func(a, b string) bool {
		if used[a] != used[b] {
			return (used[a] < used[b]) != (r.policy == policyPacked)
		}
		return given[a] < given[b]
	}
	for len(chosen) < size {
		best := 0
		for i := range candidates {
			if isReplica(candidates[i]) && better(physicalID(candidates[i]), physicalID(candidates[best])) {
				best = i
			}
		}
		id := candidates[best]
		used[physicalID(id)]++
		given[physicalID(id)]++
		chosen = append(chosen, id)
		candidates = slices.Delete(candidates, best, best+1)
	}
	return chosen, nil
}

// allocate says what one container gets for the devices that the kubelet chose for it. An error makes
// the kubelet fail the pod with UnexpectedAdmissionError; it is not tried again.
func (r *resource) allocate(ids []string, a *access) (*api.ContainerAllocateResponse, error) {
	// Read in NVIDIA's source: this is asked container by container, so two containers of one pod may
	// ask for one each; and a resource that is not shared is not limited.
	if r.failMoreThanOne && len(ids) > 1 && slices.ContainsFunc(ids, isReplica) {
		return nil, fmt.Errorf("request for '%s: %d' too large: maximum request size for shared resources is 1", r.name, len(ids))
	}
	var physical []string
	var minors []int
	for _, id := range ids {
		at := slices.IndexFunc(r.devices, func(d device) bool { return d.id == id })
		if at < 0 {
			return nil, fmt.Errorf("invalid allocation request for '%s': unknown device: %s", r.name, id)
		}
		if !slices.Contains(physical, physicalID(id)) {
			physical = append(physical, physicalID(id))
		}
		for _, minor := range r.devices[at].minors {
			if !slices.Contains(minors, minor) {
				minors = append(minors, minor)
			}
		}
	}
	response := &api.ContainerAllocateResponse{Envs: map[string]string{}, Mounts: a.mounts}
	for key, value := range a.env {
		response.Envs[key] = value
	}
	if r.tellDevices {
		// Read in NVIDIA's source: each device once; its older versions repeated the id for each replica,
		// so that a container with thousands of them could not be started.
		response.Envs["NVIDIA_VISIBLE_DEVICES"] = strings.Join(physical, ",")
	}
	if a.driverRoot != "" {
		for _, node := range append(slices.Clone(controlNodes), minorNodes(minors)...) {
			if host := filepath.Join(a.driverRoot, node); exists(host) {
				response.Devices = append(response.Devices, deviceNode(host, node))
			}
		}
	}
	for _, node := range a.devices {
		response.Devices = append(response.Devices, deviceNode(node, node))
	}
	return response, nil
}

// check names a device node that the node should have and has not. As NVIDIA's does, the control
// nodes are given if they are there and left out if not (nvidia-uvm may be made later, on first use).
func (a *access) check(h *hardware) error {
	needed := slices.Clone(a.devices)
	if a.driverRoot != "" {
		needed = append(needed, filepath.Join(a.driverRoot, controlNodes[0]))
		for _, g := range h.gpus {
			needed = append(needed, filepath.Join(a.driverRoot, minorNodes([]int{g.minor})[0]))
		}
	}
	for _, mount := range a.mounts {
		needed = append(needed, mount.HostPath)
	}
	for _, path := range needed {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("containers could not be started: %w", err)
		}
	}
	return nil
}

func minorNodes(minors []int) []string {
	var nodes []string
	for _, minor := range minors {
		nodes = append(nodes, fmt.Sprintf("/dev/nvidia%d", minor))
	}
	return nodes
}

func deviceNode(host, container string) *api.DeviceSpec {
	return &api.DeviceSpec{HostPath: host, ContainerPath: container, Permissions: "rw"}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// addMount takes a --mount: HOST:CONTAINER, read-only.
func (a *access) addMount(text string) error {
	host, container, both := strings.Cut(text, ":")
	if !both || !filepath.IsAbs(host) || !filepath.IsAbs(container) {
		return fmt.Errorf("--mount %q: give HOST:CONTAINER, two absolute paths", text)
	}
	a.mounts = append(a.mounts, &api.Mount{HostPath: host, ContainerPath: container, ReadOnly: true})
	return nil
}

// addEnv takes an --env: NAME=VALUE.
func (a *access) addEnv(text string) error {
	name, value, both := strings.Cut(text, "=")
	if !both || name == "" {
		return fmt.Errorf("--env %q: give NAME=VALUE", text)
	}
	a.env[name] = value
	return nil
}

// addDevice takes a --device: the path of a device node, the same in the container.
func (a *access) addDevice(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("--device %q: give an absolute path", path)
	}
	a.devices = append(a.devices, path)
	return nil
}
