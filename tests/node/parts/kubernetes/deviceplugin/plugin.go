// Package deviceplugin is a small stand-in for NVIDIA's k8s-device-plugin (v0.17 to v0.20), its
// config-manager and GPU feature discovery, for tests of GPU sharing on a node that has none of them.
//
// "Read in NVIDIA's source" in a comment marks behaviour that was looked up there; "assumed" what was not.
package deviceplugin

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

// plugin is what the command line asked for.
type plugin struct {
	folder   string // the kubelet's for device plugins
	hardware hardware
	access   access
	extras   []resource

	configFile string    // served if there is no selector
	selector   *selector // chooses configFile by the node's label
	labelKey   string
	label      string // its value when last seen
	unchosen   bool   // it names no configuration

	migStrategy, policy *string // over the file's, if given

	client      kubernetes.Interface // nil: neither label is read nor labels are written
	nodeName    string
	writeLabels bool

	pace pace
}

// pace is how long the plugin waits for what; tests hurry.
type pace struct {
	// Between two looks at the kubelet's socket. NVIDIA's is told by inotify, whose instances run out on
	// a busy host.
	socket time.Duration
	// Between two looks at the node's label.
	label time.Duration
	// After a registration that failed; as NVIDIA's.
	register time.Duration
	// Between two looks for the configuration of a label that names none: about what a container's
	// restart takes at first.
	choose time.Duration
}

var normalPace = pace{socket: 500 * time.Millisecond, label: 2 * time.Second, register: 30 * time.Second, choose: 10 * time.Second}

// generation is all that is served under one reading of the configuration.
type generation struct {
	servers    []*server
	endLabels  func()
	registered *identity        // the kubelet's socket at the registration
	retry      <-chan time.Time // nil: all are registered
}

// run serves until ctx ends; each hangup restarts it.
//
// Read in NVIDIA's source: a restart ends all servers, reads the configuration again, and starts anew.
// There are three causes: SIGHUP (which config-manager sends when the label names another file), a new
// kubelet.sock, and a failed registration. An edited file is none: until one of those happens, the
// edit is not seen. A configuration that is refused ends the process, its servers stopped already.
func (p *plugin) run(ctx context.Context, hangup <-chan struct{}) error {
	var labels <-chan string
	if p.selector != nil {
		if p.client != nil {
			labels = followLabel(ctx, p.client, p.nodeName, p.labelKey, p.pace.label)
			klog.Infof("waiting for label %s of node %s", p.labelKey, p.nodeName)
		}
		if err := p.chooseFirst(ctx, labels); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		serving, err := p.start(ctx)
		if err != nil {
			return err
		}
		p.wait(ctx, serving, hangup, labels)
		serving.stop()
	}
	klog.Info("ended")
	return nil
}

// chooseFirst takes the configuration to start with. Read in the operator's manifest: config-manager
// also runs as an init container, so a label that names no configuration keeps the plugin from starting.
func (p *plugin) chooseFirst(ctx context.Context, labels <-chan string) error {
	if labels != nil {
		select {
		case <-ctx.Done():
			return nil
		case p.label = <-labels:
		}
	}
	path, err := p.selector.choose(p.label)
	if err != nil {
		return err
	}
	p.configFile = path
	klog.Infof("label %s=%q: chose %s", p.labelKey, p.label, named(path))
	return nil
}

func named(path string) string {
	if path == "" {
		return "no configuration (no sharing)"
	}
	return "configuration " + path
}

// start reads the configuration, serves every resource and registers each with the kubelet.
func (p *plugin) start(ctx context.Context) (*generation, error) {
	c, err := loadConfig(p.configFile)
	if err != nil {
		return nil, err
	}
	if err := c.settle(p.migStrategy, p.policy); err != nil {
		return nil, fmt.Errorf("%s: %w", named(p.configFile), err)
	}
	klog.Infof("serving under %s: sharing %s, migStrategy %s, policy %s", named(p.configFile), c.strategy(), c.migStrategy(), c.allocationPolicy())
	for _, warning := range c.warnings {
		klog.Warningf("%s: %s", named(p.configFile), warning)
	}
	resources, err := advertised(&p.hardware, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", named(p.configFile), err)
	}
	p.tellUnused(c)
	resources = append(resources, p.extras...)
	if len(resources) == 0 {
		klog.Warning("no devices: nothing is served (give --gpu)")
	}

	g := &generation{endLabels: func() {}}
	kubelet := filepath.Join(p.folder, "kubelet.sock")
	g.registered = identify(kubelet)
	for _, r := range resources {
		if err := g.add(ctx, p.folder, kubelet, r, &p.access); err != nil {
			klog.Errorf("%v; trying all again in %v or when the kubelet makes a new %s", err, p.pace.register, kubelet)
			g.retry = time.After(p.pace.register)
			break
		}
	}
	if p.writeLabels {
		g.endLabels = inBackground(ctx, func(ctx context.Context) {
			keepLabels(ctx, p.client, p.nodeName, nodeLabels(&p.hardware, c))
		})
	}
	return g, nil
}

// tellUnused names a shared resource that this node does not have: NVIDIA's says nothing there.
func (p *plugin) tellUnused(c *config) {
	whole, err := physicalDevices(&p.hardware, c.migStrategy())
	if err != nil {
		return
	}
	for _, r := range c.inForce().Resources {
		if len(whole[r.Name]) == 0 {
			klog.Warningf("%s: sharing.%s has no effect: no such device on this node", named(p.configFile), r.Name)
		}
	}
}

func (g *generation) add(ctx context.Context, folder, kubelet string, r resource, a *access) error {
	if g.registered == nil {
		return fmt.Errorf("%s: no kubelet: %s is not there", r.name, kubelet)
	}
	s, err := serve(folder, r, a)
	if err != nil {
		return err
	}
	g.servers = append(g.servers, s)
	return s.register(ctx, kubelet)
}

func (g *generation) stop() {
	g.endLabels()
	for _, s := range g.servers {
		s.close()
	}
}

// wait returns when there is a reason to restart, or to end.
func (p *plugin) wait(ctx context.Context, g *generation, hangup <-chan struct{}, labels <-chan string) {
	kubelet := filepath.Join(p.folder, "kubelet.sock")
	look := time.NewTicker(p.pace.socket)
	defer look.Stop()
	again := time.NewTicker(p.pace.choose)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			klog.Info("asked to end")
			return
		case <-hangup:
			klog.Info("hangup: restarting")
			return
		case <-g.retry:
			klog.Info("trying again to register: restarting")
			return
		case <-look.C:
			if now := identify(kubelet); now != nil && (g.registered == nil || *now != *g.registered) {
				klog.Infof("the kubelet made a new %s: restarting", kubelet)
				return
			}
		case p.label = <-labels:
			if p.choose() {
				return
			}
		case <-again.C:
			if p.unchosen && p.choose() {
				return
			}
		}
	}
}

// choose follows the label; true: to another configuration than the one that is served.
//
// Read in NVIDIA's source: config-manager ends with an error when it cannot choose, and is started
// again by the kubelet; the plugin beside it serves on as it was.
func (p *plugin) choose() bool {
	path, err := p.selector.choose(p.label)
	if err != nil {
		if !p.unchosen {
			klog.Errorf("still serving under %s: %v", named(p.configFile), err)
		}
		p.unchosen = true
		return false
	}
	p.unchosen = false
	if path == p.configFile {
		klog.Infof("label %s=%q: already %s", p.labelKey, p.label, named(path))
		return false
	}
	klog.Infof("label %s=%q: chose %s: restarting", p.labelKey, p.label, named(path))
	p.configFile = path
	return true
}

// inBackground starts work; the function that it gives ends it and waits for that.
func inBackground(ctx context.Context, work func(context.Context)) func() {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { work(ctx) })
	return func() {
		cancel()
		done.Wait()
	}
}
