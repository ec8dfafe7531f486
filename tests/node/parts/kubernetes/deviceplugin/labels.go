package deviceplugin

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

const (
	labelEvery      = time.Minute
	labelAgainAfter = 5 * time.Second
)

// Labels that this plugin writes, and so removes when they no longer hold. Others under nvidia.com/
// (device-plugin.config, gpu.present, gpu.deploy.*) are the administrator's or the operator's.
var ownLabels = regexp.MustCompile(
	`^nvidia\.com/(?:(?:gpu|mig-[^/]+)\.(?:count|replicas|product|sharing-strategy|memory|family)|mig\.(?:capable|strategy)|mps\.capable)$`)

// nodeLabels as GPU feature discovery (GFD) writes them.
//
// Read in NVIDIA's source: replicas is the factor of each device, not their sum; 1 where nothing is
// shared; and 0 on the labels of whole GPUs when all are in MIG mode, which says nothing of their MIG
// devices. -SHARED is put after the product only if the resource keeps its name. mig.strategy is
// there only if it is not none; mps.capable is true only while MPS is in force.
// Assumed: the labels of the size of a MIG device (memory, slices, engines) are left out.
func nodeLabels(h *hardware, c *config) map[string]string {
	labels := map[string]string{}
	if len(h.gpus) == 0 {
		return labels
	}
	labels["nvidia.com/mig.capable"] = strconv.FormatBool(h.migCapable || len(h.migs) > 0)
	labels["nvidia.com/mps.capable"] = strconv.FormatBool(c.strategy() == strategyMPS && len(h.migs) == 0)
	label(labels, c, gpuResource, len(h.gpus), h.product)
	labels["nvidia.com/gpu.memory"] = strconv.Itoa(h.memoryMiB)
	labels["nvidia.com/gpu.family"] = h.family
	if !slices.ContainsFunc(h.gpus, func(g gpu) bool { return !h.inMIGMode(g) }) {
		labels["nvidia.com/gpu.product"] = sanitize(h.product)
		labels["nvidia.com/gpu.replicas"] = "0"
		labels["nvidia.com/gpu.sharing-strategy"] = strategyNone
	}
	if c.migStrategy() == migNone {
		return labels
	}
	labels["nvidia.com/mig.strategy"] = c.migStrategy()
	counts := map[string]int{}
	for _, m := range h.migs {
		counts[m.profile]++
	}
	for _, m := range h.migs {
		name := m.resource()
		if c.migStrategy() == migSingle {
			name = gpuResource
			delete(labels, "nvidia.com/gpu.memory")
		}
		label(labels, c, name, counts[m.profile], h.product, "MIG", m.profile)
	}
	return labels
}

func label(labels map[string]string, c *config, name resourceName, count int, product ...string) {
	replicas, strategy := 1, strategyNone
	if shared := c.replicasOf(name); shared != nil {
		replicas, strategy = shared.Replicas, c.strategy()
		if !c.inForce().RenameByDefault {
			product = append(product, "SHARED")
		}
	}
	for i, part := range product {
		product[i] = sanitize(part)
	}
	key := string(name) + "."
	labels[key+"product"] = strings.Join(product, "-")
	labels[key+"count"] = strconv.Itoa(count)
	labels[key+"replicas"] = strconv.Itoa(replicas)
	labels[key+"sharing-strategy"] = strategy
}

var notInLabels = regexp.MustCompile(`[^A-Za-z0-9_. -]`)

// sanitize makes a label's value of a name: "NVIDIA H200" is NVIDIA-H200.
func sanitize(text string) string {
	return strings.Join(strings.Fields(notInLabels.ReplaceAllString(text, "")), "-")
}

// keepLabels writes the labels, and again each minute as GFD does, so that what someone changed by hand
// does not last. It returns when ctx ends and leaves the labels there.
//
// Simpler than NVIDIA's: GFD is a pod of its own with its own copy of the configuration, to be
// restarted on its own; here the labels always are of the configuration that is being served.
func keepLabels(ctx context.Context, client kubernetes.Interface, node string, wanted map[string]string) {
	failing := false
	for {
		wait := labelEvery
		changed, err := writeLabels(ctx, client, node, wanted)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = labelAgainAfter
			if !failing {
				klog.Errorf("node labels not written, trying on: %v", err)
			}
		case len(changed) > 0:
			klog.Infof("node labels written: %s", strings.Join(changed, " "))
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// writeLabels makes the node's own labels the wanted ones and says what it changed.
func writeLabels(ctx context.Context, client kubernetes.Interface, node string, wanted map[string]string) ([]string, error) {
	object, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get node %s: %w", node, err)
	}
	change := map[string]any{}
	var changed []string
	for key, value := range wanted {
		if present, there := object.Labels[key]; !there || present != value {
			change[key] = value
			changed = append(changed, key+"="+value)
		}
	}
	for key := range object.Labels {
		if _, keep := wanted[key]; !keep && ownLabels.MatchString(key) {
			change[key] = nil
			changed = append(changed, key+"-")
		}
	}
	if len(changed) == 0 {
		return nil, nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": change}})
	if err != nil {
		return nil, err
	}
	if _, err := client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return nil, fmt.Errorf("label node %s: %w", node, err)
	}
	slices.Sort(changed)
	return changed, nil
}
