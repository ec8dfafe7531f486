package deviceplugin

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/klog/v2"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const registerTimeout = 5 * time.Second

// server serves one resource on its own socket.
type server struct {
	api.UnimplementedDevicePluginServer
	resource resource
	access   *access
	socket   string
	grpc     *grpc.Server
	stopped  chan struct{}
}

// serve starts to serve a resource in the kubelet's folder for device plugins.
func serve(folder string, r resource, a *access) (*server, error) {
	s := &server{resource: r, access: a, socket: filepath.Join(folder, socketName(r.name)), grpc: grpc.NewServer(), stopped: make(chan struct{})}
	// One that was left behind by a plugin that was killed.
	if err := os.Remove(s.socket); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("serve %s: remove the old socket: %w", r.name, err)
	}
	listener, err := net.Listen("unix", s.socket)
	if err != nil {
		return nil, fmt.Errorf("serve %s on %s: %w", r.name, s.socket, err)
	}
	api.RegisterDevicePluginServer(s.grpc, s)
	go func() {
		if err := s.grpc.Serve(listener); err != nil {
			klog.Errorf("%s: no longer served: %v", r.name, err)
		}
	}()
	klog.Infof("%s: serving %d devices on %s", r.name, len(r.devices), s.socket)
	return s, nil
}

// socketName is NVIDIA's for NVIDIA's resources: nvidia-gpu.sock.
func socketName(name resourceName) string {
	if short, ours := strings.CutPrefix(string(name), resourcePrefix); ours {
		return "nvidia-" + short + ".sock"
	}
	return strings.ReplaceAll(string(name), "/", "-") + ".sock"
}

// register tells the kubelet of the resource; it then calls back on the resource's socket.
func (s *server) register(ctx context.Context, kubeletSocket string) error {
	connection, err := grpc.NewClient("unix:"+kubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("register %s at %s: %w", s.resource.name, kubeletSocket, err)
	}
	defer func() { _ = connection.Close() }()
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	// The socket is there a moment before the kubelet answers on it.
	_, err = api.NewRegistrationClient(connection).Register(ctx, &api.RegisterRequest{
		Version:      api.Version,
		Endpoint:     filepath.Base(s.socket),
		ResourceName: string(s.resource.name),
		Options:      s.options(),
	}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("register %s at %s: %w", s.resource.name, kubeletSocket, err)
	}
	klog.Infof("%s: registered with the kubelet", s.resource.name)
	return nil
}

// close ends the service. The kubelet then counts the resource's devices as unhealthy: allocatable 0
// at once, capacity 0 after five minutes.
func (s *server) close() {
	close(s.stopped)
	s.grpc.Stop() // removes the socket
	klog.Infof("%s: no longer serving", s.resource.name)
}

func (s *server) options() *api.DevicePluginOptions {
	return &api.DevicePluginOptions{GetPreferredAllocationAvailable: s.resource.tellDevices}
}

// GetDevicePluginOptions answers the kubelet what else it may call.
func (s *server) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return s.options(), nil
}

// ListAndWatch sends the devices once: they do not change, and all are healthy, until a restart.
func (s *server) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	list := &api.ListAndWatchResponse{}
	for _, d := range s.resource.devices {
		list.Devices = append(list.Devices, &api.Device{ID: d.id, Health: api.Healthy})
	}
	if err := stream.Send(list); err != nil {
		return err
	}
	select {
	case <-s.stopped:
	case <-stream.Context().Done():
	}
	return nil
}

// GetPreferredAllocation advises the kubelet which of the free devices to give.
func (s *server) GetPreferredAllocation(_ context.Context, request *api.PreferredAllocationRequest) (*api.PreferredAllocationResponse, error) {
	response := &api.PreferredAllocationResponse{}
	for _, container := range request.ContainerRequests {
		ids, err := s.resource.prefer(container.AvailableDeviceIDs, container.MustIncludeDeviceIDs, int(container.AllocationSize))
		if err != nil {
			return nil, err
		}
		response.ContainerResponses = append(response.ContainerResponses, &api.ContainerPreferredAllocationResponse{DeviceIDs: ids})
	}
	return response, nil
}

// Allocate answers what each container gets for its devices.
func (s *server) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		given, err := s.resource.allocate(container.DevicesIds, s.access)
		if err != nil {
			klog.Errorf("%s: refused: %v", s.resource.name, err)
			return nil, err
		}
		klog.Infof("%s: allocated %s", s.resource.name, strings.Join(container.DevicesIds, " "))
		response.ContainerResponses = append(response.ContainerResponses, given)
	}
	return response, nil
}

// identity of a file: another one under the same name has another, even where it got the old inode.
type identity struct {
	device, inode uint64
	changed       syscall.Timespec
}

// identify gives nil for a file that is not there.
func identify(path string) *identity {
	var stat syscall.Stat_t
	if err := syscall.Stat(path, &stat); err != nil {
		return nil
	}
	return &identity{device: stat.Dev, inode: stat.Ino, changed: stat.Ctim}
}
