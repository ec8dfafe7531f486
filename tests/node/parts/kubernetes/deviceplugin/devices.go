package deviceplugin

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	gpuResource     resourceName = resourcePrefix + "gpu"
	replicaSplitter              = "::"
)

// hardware is what the node is said to have; NVIDIA's plugin asks NVML.
type hardware struct {
	gpus []gpu
	migs []migDevice

	product    string
	family     string
	memoryMiB  int
	migCapable bool
}

type gpu struct {
	uuid  string
	minor int
}

type migDevice struct {
	uuid    string
	profile string
	parent  gpu
}

// device is one device as the kubelet is told of it: a whole GPU, a MIG device, or a replica of one.
type device struct {
	id     string
	minors []int // the /dev/nvidia<minor> that it needs
}

// physical is the id without the number of the replica.
func (d device) physical() string { return physicalID(d.id) }

func physicalID(id string) string {
	physical, _, _ := strings.Cut(id, replicaSplitter)
	return physical
}

func isReplica(id string) bool { return strings.Contains(id, replicaSplitter) }

// resource is one extended resource and the devices behind it.
type resource struct {
	name    resourceName
	devices []device
	// Allocate refuses a container that asks for more than one replica.
	failMoreThanOne bool
	policy          string
	// Containers are told their devices in NVIDIA_VISIBLE_DEVICES, and preferences are offered.
	tellDevices bool
}

// advertised is what the plugin offers the kubelet under a configuration.
func advertised(h *hardware, c *config) ([]resource, error) {
	whole, err := physicalDevices(h, c.migStrategy())
	if err != nil {
		return nil, err
	}
	names := make([]resourceName, 0, len(whole))
	for name := range whole {
		names = append(names, name)
	}
	slices.Sort(names)
	offered := make([]resource, 0, len(names))
	for _, name := range names {
		r := resource{name: name, devices: whole[name], policy: c.allocationPolicy(), tellDevices: true}
		if shared := c.replicasOf(name); shared != nil {
			r.name = c.inForce().advertisedName(name)
			r.devices = replicate(whole[name], shared.Replicas)
			r.failMoreThanOne = c.failsMoreThanOne()
		}
		offered = append(offered, r)
	}
	return offered, nil
}

// physicalDevices by resource. Read in NVIDIA's source: under none a GPU in MIG mode is offered as a
// whole GPU, which no container can then use.
func physicalDevices(h *hardware, migStrategy string) (map[resourceName][]device, error) {
	devices := map[resourceName][]device{}
	for _, g := range h.gpus {
		if migStrategy == migNone || !h.inMIGMode(g) {
			devices[gpuResource] = append(devices[gpuResource], device{id: g.uuid, minors: []int{g.minor}})
		}
	}
	if migStrategy == migNone || len(h.migs) == 0 {
		return devices, nil
	}
	if migStrategy == migSingle {
		if len(devices) > 0 {
			return nil, fmt.Errorf("migStrategy single: %d GPUs of this node are in MIG mode and %d are not",
				len(h.gpus)-len(devices[gpuResource]), len(devices[gpuResource]))
		}
		for _, m := range h.migs {
			if m.profile != h.migs[0].profile {
				return nil, fmt.Errorf("migStrategy single: this node has MIG devices of %s and of %s", h.migs[0].profile, m.profile)
			}
		}
	}
	for _, m := range h.migs {
		name := gpuResource
		if migStrategy == migMixed {
			name = m.resource()
		}
		devices[name] = append(devices[name], device{id: m.uuid, minors: []int{m.parent.minor}})
	}
	return devices, nil
}

func (h *hardware) inMIGMode(g gpu) bool {
	return slices.ContainsFunc(h.migs, func(m migDevice) bool { return m.parent.uuid == g.uuid })
}

// resource name of a MIG device under mixed: a + of the profile (1g.18gb+me) becomes a full stop.
func (m migDevice) resource() resourceName {
	return resourcePrefix + "mig-" + resourceName(strings.ReplaceAll(m.profile, "+", "."))
}

func replicate(devices []device, replicas int) []device {
	replicated := make([]device, 0, len(devices)*replicas)
	for _, d := range devices {
		for n := range replicas {
			replicated = append(replicated, device{id: d.id + replicaSplitter + strconv.Itoa(n), minors: d.minors})
		}
	}
	return replicated
}

var (
	gpuForm   = regexp.MustCompile(`^(GPU-[0-9A-Za-z-]+)(?:=([0-9]{1,3}))?$`)
	migForm   = regexp.MustCompile(`^(MIG-[0-9A-Za-z-]+)=([0-9a-z.+]+)(?:@(GPU-[0-9A-Za-z-]+))?$`)
	extraForm = regexp.MustCompile(`^([a-z0-9.-]+/[A-Za-z0-9_.-]+)=([0-9]{1,4})$`)
)

// addGPU takes a --gpu: UUID[=minor]; the minor is the place in the list if it is not given.
func (h *hardware) addGPU(text string) error {
	match := gpuForm.FindStringSubmatch(text)
	if match == nil {
		return fmt.Errorf("--gpu %q: give GPU-<uuid> or GPU-<uuid>=<minor>", text)
	}
	added := gpu{uuid: match[1], minor: len(h.gpus)}
	if match[2] != "" {
		added.minor, _ = strconv.Atoi(match[2]) // digits by the form
	}
	for _, other := range h.gpus {
		if other.uuid == added.uuid || other.minor == added.minor {
			return fmt.Errorf("--gpu %q: %s has this UUID or minor %d already", text, other.uuid, added.minor)
		}
	}
	h.gpus = append(h.gpus, added)
	return nil
}

// addMIG takes a --mig-device: UUID=profile[@GPU-uuid]; its GPU is the first one if it is not given.
func (h *hardware) addMIG(text string) error {
	match := migForm.FindStringSubmatch(text)
	if match == nil {
		return fmt.Errorf("--mig-device %q: give MIG-<uuid>=<profile> or MIG-<uuid>=<profile>@GPU-<uuid>", text)
	}
	parent := slices.IndexFunc(h.gpus, func(g gpu) bool { return match[3] == "" || g.uuid == match[3] })
	if parent < 0 {
		return fmt.Errorf("--mig-device %q: no --gpu that it could be part of", text)
	}
	if slices.ContainsFunc(h.migs, func(m migDevice) bool { return m.uuid == match[1] }) {
		return fmt.Errorf("--mig-device %q: given twice", text)
	}
	h.migs = append(h.migs, migDevice{uuid: match[1], profile: match[2], parent: h.gpus[parent]})
	return nil
}

// extraResource takes an --extra-resource: NAME=COUNT. It is no resource of NVIDIA's: whoever gets
// one gets all GPUs' device nodes and is told of no device, which is what an agent that reads NVML
// needs on a node without NVIDIA's runtime.
func extraResource(text string, h *hardware) (resource, error) {
	match := extraForm.FindStringSubmatch(text)
	if match == nil || strings.HasPrefix(text, resourcePrefix) {
		return resource{}, fmt.Errorf("--extra-resource %q: give <domain>/<name>=<count>, of a domain that is not nvidia.com", text)
	}
	count, _ := strconv.Atoi(match[2]) // digits by the form
	var all []int
	for _, g := range h.gpus {
		all = append(all, g.minor)
	}
	_, short, _ := strings.Cut(match[1], "/")
	extra := resource{name: resourceName(match[1])}
	for n := range count {
		extra.devices = append(extra.devices, device{id: fmt.Sprintf("%s-%d", short, n), minors: all})
	}
	return extra, nil
}
