package deviceplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	"sigs.k8s.io/yaml"
)

// The one configuration version that NVIDIA's plugin knows; a file without a version has this one.
const configVersion = "v1"

const (
	resourcePrefix        = "nvidia.com/"
	sharedSuffix          = ".shared"
	maxResourceNameLength = 63
)

// How a node shares its GPUs, by the names that the node label gpu.sharing-strategy has.
const (
	strategyNone        = "none"
	strategyTimeSlicing = "time-slicing"
	strategyMPS         = "mps"
)

// How MIG devices are offered.
const (
	migNone   = "none"
	migSingle = "single"
	migMixed  = "mixed"
)

// Which replicas a container gets when it asks for several.
const (
	policyDistributed = "distributed"
	policyPacked      = "packed"
)

// config is the part of NVIDIA's configuration file that says something about sharing.
//
// Read in NVIDIA's source: the file is decoded leniently, so a key that no field has (at any depth)
// is ignored without a word: renameByDefault under flags is such a one.
type config struct {
	Version   string `json:"version"`
	Flags     flags  `json:"flags"`
	Resources struct {
		GPUs []json.RawMessage `json:"gpus"`
		MIGs []json.RawMessage `json:"mig"`
	} `json:"resources"`
	Sharing sharing `json:"sharing"`

	// What the file asks for and does not get.
	warnings []string
}

type flags struct {
	MIGStrategy     *string `json:"migStrategy"`
	FailOnInitError *bool   `json:"failOnInitError"`
	Plugin          struct {
		AllocationPolicy *string `json:"sharedDevicesAllocationPolicy"` // since v0.20
	} `json:"plugin"`
}

type sharing struct {
	TimeSlicing replicated  `json:"timeSlicing"`
	MPS         *replicated `json:"mps"`
}

// replicated is what one way of sharing says: sharing.timeSlicing or sharing.mps.
type replicated struct {
	RenameByDefault            bool
	FailRequestsGreaterThanOne *bool
	Resources                  []replicatedResource
}

type replicatedResource struct {
	Name     resourceName
	Replicas int
	// Read and then ignored with a warning, as NVIDIA's does.
	rename      resourceName
	someDevices bool
}

type resourceName string

// loadConfig reads a configuration file; an empty path is an empty configuration, which shares nothing.
func loadConfig(path string) (*config, error) {
	if path == "" {
		return parseConfig(nil)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	parsed, err := parseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return parsed, nil
}

func parseConfig(text []byte) (*config, error) {
	var c config
	if err := yaml.Unmarshal(text, &c); err != nil {
		return nil, err
	}
	if c.Version != "" && c.Version != configVersion {
		return nil, fmt.Errorf("unknown version %q: the only one is %q", c.Version, configVersion)
	}
	if len(c.Resources.GPUs)+len(c.Resources.MIGs) > 0 {
		c.warn("resources: renaming by product is not supported, ignored")
	}
	c.Sharing.TimeSlicing.applyRename(&c, "sharing.timeSlicing")
	if c.Sharing.MPS != nil {
		c.Sharing.MPS.applyRename(&c, "sharing.mps")
		if len(c.Sharing.TimeSlicing.Resources) > 0 {
			// Read in NVIDIA's source: not refused; the README alone calls them mutually exclusive.
			c.warn("sharing has timeSlicing and mps: mps is in force, timeSlicing ignored")
		}
	}
	return &c, nil
}

func (c *config) warn(format string, arguments ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, arguments...))
}

// settle puts command line values (nil: not given) over the file's and checks the result. Read in
// NVIDIA's source: the command line and the environment win over the file. The operator sets
// MIG_STRATEGY from its ClusterPolicy, so on its nodes flags.migStrategy of a file has no effect.
func (c *config) settle(migStrategy, policy *string) error {
	if migStrategy != nil {
		c.Flags.MIGStrategy = migStrategy
	}
	if policy != nil {
		c.Flags.Plugin.AllocationPolicy = policy
	}
	switch c.migStrategy() {
	case migNone, migSingle:
	case migMixed:
		if c.strategy() == strategyMPS {
			return errors.New("migStrategy mixed is not supported with sharing.mps")
		}
	default:
		return fmt.Errorf("unknown migStrategy %q: one of none, single, mixed", c.migStrategy())
	}
	switch c.allocationPolicy() {
	case policyDistributed, policyPacked:
		return nil
	default:
		return fmt.Errorf("unknown sharedDevicesAllocationPolicy %q: one of distributed, packed", c.allocationPolicy())
	}
}

func (c *config) migStrategy() string {
	if c.Flags.MIGStrategy == nil {
		return migNone
	}
	return *c.Flags.MIGStrategy
}

func (c *config) allocationPolicy() string {
	if c.Flags.Plugin.AllocationPolicy == nil {
		return policyDistributed
	}
	return *c.Flags.Plugin.AllocationPolicy
}

func (c *config) strategy() string {
	switch {
	case c.Sharing.MPS != nil:
		return strategyMPS
	case len(c.Sharing.TimeSlicing.Resources) > 0:
		return strategyTimeSlicing
	default:
		return strategyNone
	}
}

func (c *config) inForce() *replicated {
	if c.Sharing.MPS != nil {
		return c.Sharing.MPS
	}
	return &c.Sharing.TimeSlicing
}

// failsMoreThanOne: off by default for time-slicing, on for MPS (before v0.20 always on for MPS).
func (c *config) failsMoreThanOne() bool {
	if set := c.inForce().FailRequestsGreaterThanOne; set != nil {
		return *set
	}
	return c.strategy() == strategyMPS
}

// replicasOf finds what is said of a resource; nil: it is not shared.
func (c *config) replicasOf(name resourceName) *replicatedResource {
	for i, r := range c.inForce().Resources {
		if r.Name == name {
			return &c.inForce().Resources[i]
		}
	}
	return nil
}

// advertisedName of a shared resource.
func (r *replicated) advertisedName(name resourceName) resourceName {
	if r.RenameByDefault {
		return name + sharedSuffix
	}
	return name
}

func (r *replicated) applyRename(c *config, where string) {
	for i, resource := range r.Resources {
		at := fmt.Sprintf("%s.resources[%d]", where, i)
		if resource.rename != "" && !(r.RenameByDefault && resource.rename == resource.Name+sharedSuffix) {
			c.warn("%s: rename is not supported, ignored", at)
		}
		if resource.someDevices {
			c.warn("%s: devices is not supported, ignored: all devices are shared alike", at)
		}
	}
}

// UnmarshalJSON refuses a way of sharing without resources. Read in NVIDIA's source: the keys below
// here are matched by their exact case, unlike those above.
func (r *replicated) UnmarshalJSON(text []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return err
	}
	if err := decode(keys, "renameByDefault", &r.RenameByDefault); err != nil {
		return err
	}
	if err := decode(keys, "failRequestsGreaterThanOne", &r.FailRequestsGreaterThanOne); err != nil {
		return err
	}
	if err := decode(keys, "resources", &r.Resources); err != nil {
		return err
	}
	if len(r.Resources) == 0 {
		return errors.New("sharing: no resources given")
	}
	return nil
}

func (r *replicatedResource) UnmarshalJSON(text []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return err
	}
	for _, required := range []string{"name", "replicas"} {
		if _, given := keys[required]; !given {
			return fmt.Errorf("sharing: a resource without %s: %s", required, text)
		}
	}
	if err := decode(keys, "name", &r.Name); err != nil {
		return err
	}
	if err := decode(keys, "replicas", &r.Replicas); err != nil {
		return err
	}
	if r.Replicas < 2 {
		return fmt.Errorf("sharing: replicas of %s is %d: 2 is the least", r.Name, r.Replicas)
	}
	if err := decode(keys, "rename", &r.rename); err != nil {
		return err
	}
	if devices, given := keys["devices"]; given {
		if err := checkDevices(devices); err != nil {
			return err
		}
		r.someDevices = string(devices) != `"all"`
	}
	return nil
}

func decode(keys map[string]json.RawMessage, key string, into any) error {
	value, given := keys[key]
	if !given {
		return nil
	}
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("sharing: %s: %w", key, err)
	}
	return nil
}

// checkDevices refuses what NVIDIA's refuses in a field whose good values it ignores: anything but
// "all", a count above 0, or a list of GPU indices, MIG indices (0:1) and UUIDs.
func checkDevices(text json.RawMessage) error {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return err
	}
	good := false
	switch v := value.(type) {
	case string:
		good = v == "all"
	case float64:
		good = v >= 1 && v == float64(int(v))
	case []any:
		good = true
		for _, item := range v {
			good = good && isDeviceReference(item)
		}
	}
	if !good {
		return fmt.Errorf(`sharing: devices is %s: "all", a count above 0, or a list of indices and UUIDs`, text)
	}
	return nil
}

func isDeviceReference(item any) bool {
	switch v := item.(type) {
	case float64:
		return v >= 0 && v == float64(int(v))
	case string:
		if strings.HasPrefix(v, "GPU-") || strings.HasPrefix(v, "MIG-") {
			return true // assumed: NVIDIA's also checks the form of the UUID
		}
		for _, part := range strings.SplitN(v, ":", 2) {
			if _, err := strconv.ParseUint(part, 10, 0); err != nil {
				return false
			}
		}
		return true
	default:
		return false
	}
}

// UnmarshalJSON puts the prefix before a bare name, as NVIDIA's does: gpu is nvidia.com/gpu.
func (n *resourceName) UnmarshalJSON(text []byte) error {
	var name string
	if err := json.Unmarshal(text, &name); err != nil {
		return err
	}
	if !strings.HasPrefix(name, resourcePrefix) {
		name = resourcePrefix + name
	}
	if len(name) > maxResourceNameLength {
		return fmt.Errorf("resource name %q is longer than %d characters", name, maxResourceNameLength)
	}
	if wrong := validation.NameIsDNSSubdomain(strings.TrimPrefix(name, resourcePrefix), false); len(wrong) > 0 {
		return fmt.Errorf("resource name %q: %s", name, strings.Join(wrong, "; "))
	}
	*n = resourceName(name)
	return nil
}
