package deviceplugin

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// running is a plugin with its signals.
type running struct {
	t      *testing.T
	hangup chan struct{}
	end    context.CancelFunc
	ended  chan error
}

func start(t *testing.T, p *plugin) *running {
	t.Helper()
	if p.pace == (pace{}) {
		p.pace = pace{socket: time.Millisecond, label: time.Millisecond, register: time.Hour, choose: time.Millisecond}
	}
	ctx, end := context.WithCancel(t.Context())
	r := &running{t: t, hangup: make(chan struct{}), end: end, ended: make(chan error, 1)}
	go func() { r.ended <- p.run(ctx, r.hangup) }()
	t.Cleanup(end)
	return r
}

// result of the run, which has to end now.
func (r *running) result() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(10 * time.Second):
		r.t.Fatal("still running")
		return nil
	}
}

// stop asks it to end, which leaves no socket of its own.
func (r *running) stop(folder string) {
	r.t.Helper()
	r.end()
	if err := r.result(); err != nil {
		r.t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(folder, "*.sock"))
	if err != nil || slices.ContainsFunc(left, func(path string) bool { return filepath.Base(path) != "kubelet.sock" }) {
		r.t.Errorf("left behind: %v, %v", left, err)
	}
}

func socketFolder(t *testing.T) string {
	t.Helper()
	// A test's own folder may have a name that is too long for a socket.
	folder, err := os.MkdirTemp("", "dp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

func TestTheKubeletListsAndAllocates(t *testing.T) {
	folder, file := socketFolder(t), filepath.Join(t.TempDir(), "any")
	write(t, file, sliced)
	h := node(t, 2)
	extra, err := extraResource("slicewatch.test/nvml=3", h)
	if err != nil {
		t.Fatal(err)
	}
	// What a plugin that was killed leaves behind does not disturb the next one.
	write(t, filepath.Join(folder, "nvidia-gpu.sock"), "")
	k := startKubelet(t, folder)
	r := start(t, &plugin{folder: folder, hardware: *h, configFile: file, extras: []resource{extra}})

	gpus := k.next()
	if gpus.request.ResourceName != "nvidia.com/gpu" || gpus.request.Version != api.Version || gpus.request.Endpoint != "nvidia-gpu.sock" || !gpus.request.Options.GetPreferredAllocationAvailable {
		t.Errorf("%v", gpus.request)
	}
	if got := strings.Join(gpus.ids, " "); got != "GPU-a::0 GPU-a::1 GPU-a::2 GPU-a::3 GPU-b::0 GPU-b::1 GPU-b::2 GPU-b::3" {
		t.Errorf("devices %s", got)
	}
	nvml := k.next()
	if nvml.request.ResourceName != "slicewatch.test/nvml" || nvml.request.Options.GetPreferredAllocationAvailable || len(nvml.ids) != 3 {
		t.Errorf("%v %v", nvml.request, nvml.ids)
	}
	preferred, err := gpus.client.GetPreferredAllocation(t.Context(), &api.PreferredAllocationRequest{
		ContainerRequests: []*api.ContainerPreferredAllocationRequest{{AvailableDeviceIDs: gpus.ids[1:], AllocationSize: 1}},
	})
	if err != nil || !slices.Equal(preferred.ContainerResponses[0].DeviceIDs, []string{"GPU-b::0"}) {
		t.Errorf("%v, %v", err, preferred)
	}
	// Two containers with one each are let in where one container with two is not.
	both, err := gpus.client.Allocate(t.Context(), &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{
		{DevicesIds: []string{"GPU-a::0"}}, {DevicesIds: []string{"GPU-b::3"}},
	}})
	if err != nil || both.ContainerResponses[0].Envs["NVIDIA_VISIBLE_DEVICES"] != "GPU-a" || both.ContainerResponses[1].Envs["NVIDIA_VISIBLE_DEVICES"] != "GPU-b" {
		t.Errorf("%v, %v", err, both)
	}
	_, err = gpus.client.Allocate(t.Context(), &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: []string{"GPU-a::0", "GPU-b::3"}}}})
	if err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("%v", err)
	}
	r.stop(folder)
	gpus.gone()
}

func TestANewKubeletSocketIsRegisteredAt(t *testing.T) {
	folder := socketFolder(t)
	first := startKubelet(t, folder)
	r := start(t, &plugin{folder: folder, hardware: *node(t, 1)})
	before := first.next()
	first.none()

	// As a kubelet does when it starts: it clears the folder of sockets, then listens.
	first.stop()
	if err := os.RemoveAll(filepath.Join(folder, "nvidia-gpu.sock")); err != nil {
		t.Fatal(err)
	}
	second := startKubelet(t, folder)
	before.gone()
	if after := second.next(); !slices.Equal(after.ids, before.ids) {
		t.Errorf("%v, before %v", after.ids, before.ids)
	}
	second.none()
	r.stop(folder)
}

func TestThePluginMayStartBeforeTheKubelet(t *testing.T) {
	folder := socketFolder(t)
	r := start(t, &plugin{folder: folder, hardware: *node(t, 1)})
	time.Sleep(20 * time.Millisecond)
	startKubelet(t, folder).next()
	r.stop(folder)
}

func TestAnEditIsSeenOnlyAfterARestart(t *testing.T) {
	folder, file := socketFolder(t), filepath.Join(t.TempDir(), "any")
	write(t, file, sliced)
	k := startKubelet(t, folder)
	r := start(t, &plugin{folder: folder, hardware: *node(t, 1), configFile: file})
	if before := k.next(); len(before.ids) != 4 {
		t.Errorf("%v", before.ids)
	}
	write(t, file, slicing("renameByDefault: true, resources: [{name: gpu, replicas: 2}]"))
	k.none()
	r.hangup <- struct{}{}
	if after := k.next(); after.request.ResourceName != "nvidia.com/gpu.shared" || len(after.ids) != 2 {
		t.Errorf("%v %v", after.request, after.ids)
	}
	if exists(filepath.Join(folder, "nvidia-gpu.sock")) {
		t.Error("the old resource is still served")
	}
	// A configuration that is refused ends the process, and the service with it.
	write(t, file, slicing("resources: [{name: gpu, replicas: 1}]"))
	r.hangup <- struct{}{}
	if err := r.result(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
	if exists(filepath.Join(folder, "nvidia-gpu.shared.sock")) {
		t.Error("still served")
	}
}

func TestTheLabelChooses(t *testing.T) {
	const key = "nvidia.com/device-plugin.config"
	folder := socketFolder(t)
	files := configs(t, map[string]string{"any": sliced, "t4": slicing("resources: [{name: gpu, replicas: 2}]")})
	nodeAPI := serveNode(t, nil)
	k := startKubelet(t, folder)
	r := start(t, &plugin{
		folder: folder, hardware: *node(t, 1), selector: &selector{folder: files, fallback: "any"}, labelKey: key,
		client: nodeAPI.client, nodeName: "n", writeLabels: true,
	})
	replicas := func(want string) {
		t.Helper()
		for range 1000 {
			if nodeAPI.labels()["nvidia.com/gpu.replicas"] == want {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("label gpu.replicas is %q, not %s", nodeAPI.labels()["nvidia.com/gpu.replicas"], want)
	}
	if byDefault := k.next(); len(byDefault.ids) != 4 {
		t.Errorf("%v", byDefault.ids)
	}
	replicas("4")
	nodeAPI.set(key, "any") // the same one, now by label
	k.none()
	nodeAPI.set(key, "t4")
	if labelled := k.next(); len(labelled.ids) != 2 {
		t.Errorf("%v", labelled.ids)
	}
	replicas("2")
	nodeAPI.set(key, "a100") // not there: it serves on as it was
	k.none()
	write(t, filepath.Join(files, "a100"), slicing("resources: [{name: gpu, replicas: 8}]"))
	if added := k.next(); len(added.ids) != 8 {
		t.Errorf("%v", added.ids)
	}
	nodeAPI.set(key, "")
	if again := k.next(); len(again.ids) != 4 {
		t.Errorf("%v", again.ids)
	}
	replicas("4")
	r.stop(folder)
}

func TestALabelOfNoConfigurationKeepsItFromStarting(t *testing.T) {
	nodeAPI := serveNode(t, map[string]string{"k": "gone"})
	r := start(t, &plugin{
		folder: socketFolder(t), hardware: *node(t, 1), selector: &selector{folder: configs(t, map[string]string{"any": ""}), fallback: "any"},
		labelKey: "k", client: nodeAPI.client, nodeName: "n",
	})
	if err := r.result(); err == nil || !strings.Contains(err.Error(), `"gone"`) {
		t.Errorf("%v", err)
	}
}

func TestARefusedRegistrationIsTriedAgain(t *testing.T) {
	folder := socketFolder(t)
	// A socket that is there, and nobody answers.
	write(t, filepath.Join(folder, "kubelet.sock"), "")
	short := pace{socket: time.Hour, label: time.Hour, register: time.Millisecond, choose: time.Hour}
	r := start(t, &plugin{folder: filepath.Join(folder, "none"), hardware: *node(t, 1), pace: short})
	time.Sleep(20 * time.Millisecond)
	if err := os.Mkdir(filepath.Join(folder, "none"), 0o755); err != nil {
		t.Fatal(err)
	}
	startKubelet(t, filepath.Join(folder, "none")).next()
	r.stop(filepath.Join(folder, "none"))
}
