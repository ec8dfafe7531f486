package deviceplugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// options are the flags as they were given.
type options struct {
	kubeletDir                           string
	gpus, migs, extras                   []string
	product, family                      string
	memoryMiB                            int
	migCapable                           bool
	driverRoot                           string
	mounts, envs, devices                []string
	configFile, configDir, defaultConfig string
	fallbacks                            []string
	labelKey, kubeconfig, nodeName       string
	nodeLabels                           bool
	migStrategy, allocationPolicy        string
}

// NewCommand is the device plugin's command line.
func NewCommand() *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:   "device-plugin",
		Short: "Offers GPUs to the kubelet as NVIDIA's device plugin does, for tests",
		Long: `Offers GPUs to the kubelet as NVIDIA's device plugin does, for tests.

SIGHUP reads the configuration again, as does a change of the node's label and a restart of the kubelet;
an edited file alone does not.`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
	}
	f := command.Flags()
	f.StringVar(&o.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "the kubelet's root folder")
	f.StringArrayVar(&o.gpus, "gpu", nil, "a GPU: GPU-<uuid>[=<minor>] (repeat)")
	f.StringArrayVar(&o.migs, "mig-device", nil, "a MIG device: MIG-<uuid>=<profile>[@GPU-<uuid>]; its GPU is then in MIG mode (repeat)")
	f.StringArrayVar(&o.extras, "extra-resource", nil, "a resource that gives all GPUs' device nodes and no GPU: <domain>/<name>=<count> (repeat)")
	f.StringVar(&o.driverRoot, "driver-root", "", "give containers the device nodes under this root (/ on a real GPU); empty: none")
	f.StringArrayVar(&o.mounts, "mount", nil, "give containers a folder of the host, read-only: HOST:CONTAINER (repeat)")
	f.StringArrayVar(&o.envs, "env", nil, "give containers a variable: NAME=VALUE (repeat)")
	f.StringArrayVar(&o.devices, "device", nil, "give containers another device node (repeat)")
	f.StringVar(&o.configFile, "config-file", "", "a configuration file of NVIDIA's device plugin")
	f.StringVar(&o.configDir, "config-dir", "", "a folder of them, one of which the node's label names")
	f.StringVar(&o.defaultConfig, "default-config", "", "the file of --config-dir for a node without the label")
	f.StringSliceVar(&o.fallbacks, "fallback-strategies", []string{fallbackEmpty}, "what to do without label and default, in this order: named, single, empty")
	f.StringVar(&o.labelKey, "node-label", "nvidia.com/device-plugin.config", "the label that names the configuration")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API server; empty: from inside the cluster")
	f.StringVar(&o.nodeName, "node-name", os.Getenv("NODE_NAME"), "this node; empty: no label is read")
	f.BoolVar(&o.nodeLabels, "node-labels", false, "label the node as GPU feature discovery does")
	f.StringVar(&o.product, "product", "NVIDIA H200", "for the label gpu.product")
	f.StringVar(&o.family, "family", "hopper", "for the label gpu.family")
	f.IntVar(&o.memoryMiB, "memory-mib", 143771, "for the label gpu.memory")
	f.BoolVar(&o.migCapable, "mig-capable", true, "for the label mig.capable")
	f.StringVar(&o.migStrategy, "mig-strategy", "", "over flags.migStrategy of the configuration: none, single, mixed")
	f.StringVar(&o.allocationPolicy, "shared-devices-allocation-policy", "", "over the configuration's: distributed, packed")

	command.RunE = func(command *cobra.Command, _ []string) error {
		p, err := o.plugin()
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(command.Context(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
		defer stop()
		return p.run(ctx, hangups(ctx))
	}
	return command
}

// hangups passes SIGHUP on; several before one is taken are one.
func hangups(ctx context.Context) <-chan struct{} {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	passed := make(chan struct{}, 1)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				select {
				case passed <- struct{}{}:
				default:
				}
			}
		}
	}()
	return passed
}

// plugin checks the flags and makes of them what runs.
func (o *options) plugin() (*plugin, error) {
	p := &plugin{
		folder:      filepath.Join(o.kubeletDir, "device-plugins"),
		hardware:    hardware{product: o.product, family: o.family, memoryMiB: o.memoryMiB, migCapable: o.migCapable},
		access:      access{driverRoot: o.driverRoot, env: map[string]string{}},
		configFile:  o.configFile,
		labelKey:    o.labelKey,
		nodeName:    o.nodeName,
		writeLabels: o.nodeLabels,
		pace:        normalPace,
	}
	for _, each := range []struct {
		values []string
		add    func(string) error
	}{
		{o.gpus, p.hardware.addGPU},
		{o.migs, p.hardware.addMIG},
		{o.mounts, p.access.addMount},
		{o.envs, p.access.addEnv},
		{o.devices, p.access.addDevice},
		{o.extras, p.addExtra},
	} {
		for _, value := range each.values {
			if err := each.add(value); err != nil {
				return nil, err
			}
		}
	}
	if err := p.access.check(&p.hardware); err != nil {
		return nil, err
	}
	if o.migStrategy != "" {
		p.migStrategy = &o.migStrategy
	}
	if o.allocationPolicy != "" {
		p.policy = &o.allocationPolicy
	}
	switch {
	case o.configFile != "" && o.configDir != "":
		return nil, errors.New("--config-file and --config-dir: give one of them")
	case o.configDir != "":
		p.selector = &selector{folder: o.configDir, fallback: o.defaultConfig, fallbacks: o.fallbacks}
	case o.defaultConfig != "":
		return nil, errors.New("--default-config names a file of --config-dir, which is not given")
	}
	return p, o.connect(p)
}

func (p *plugin) addExtra(text string) error {
	extra, err := extraResource(text, &p.hardware)
	if err != nil {
		return err
	}
	p.extras = append(p.extras, extra)
	return nil
}

// connect makes the client of the API server, if anything needs one.
func (o *options) connect(p *plugin) error {
	if o.nodeName == "" {
		if o.nodeLabels {
			return errors.New("--node-labels needs --node-name")
		}
		if p.selector != nil {
			klog.Warning("no --node-name: the node's label is not read")
		}
		return nil
	}
	if p.selector == nil && !o.nodeLabels {
		return nil
	}
	server, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("--kubeconfig %q: %w", o.kubeconfig, err)
	}
	p.client, err = kubernetes.NewForConfig(server)
	if err != nil {
		return fmt.Errorf("--kubeconfig %q: %w", o.kubeconfig, err)
	}
	return nil
}
