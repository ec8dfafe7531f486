package deviceplugin

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// nodeAPI is an API server that has one node, called n.
type nodeAPI struct {
	client kubernetes.Interface
	mutex  sync.Mutex
	values map[string]string
	broken bool
}

func serveNode(t *testing.T, labels map[string]string) *nodeAPI {
	t.Helper()
	n := &nodeAPI{values: map[string]string{}}
	for key, value := range labels {
		n.values[key] = value
	}
	server := httptest.NewServer(n)
	t.Cleanup(server.Close)
	n.client = kubernetes.NewForConfigOrDie(&rest.Config{Host: server.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON}})
	return n
}

func (n *nodeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.broken {
		http.Error(w, "broken", http.StatusServiceUnavailable)
		return
	}
	if r.URL.Path != "/api/v1/nodes/n" {
		http.NotFound(w, r)
		return
	}
	if r.Method == http.MethodPatch {
		var patch struct {
			Metadata struct{ Labels map[string]*string }
		}
		if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for key, value := range patch.Metadata.Labels {
			if value == nil {
				delete(n.values, key)
			} else {
				n.values[key] = *value
			}
		}
	}
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "Node", "apiVersion": "v1", "metadata": map[string]any{"name": "n", "labels": n.values},
	})
}

func (n *nodeAPI) set(key, value string) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.values[key] = value
	if value == "" {
		delete(n.values, key)
	}
}

func (n *nodeAPI) fail(broken bool) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.broken = broken
}

func (n *nodeAPI) labels() map[string]string {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	labels := map[string]string{}
	for key, value := range n.values {
		labels[key] = value
	}
	return labels
}

// kubelet is the kubelet's end of the registration socket.
type kubelet struct {
	api.UnimplementedRegistrationServer
	t          *testing.T
	folder     string
	server     *grpc.Server
	registered chan *api.RegisterRequest
}

// startKubelet listens on kubelet.sock, where there may not be one yet.
func startKubelet(t *testing.T, folder string) *kubelet {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(folder, "kubelet.sock"))
	if err != nil {
		t.Fatal(err)
	}
	k := &kubelet{t: t, folder: folder, server: grpc.NewServer(), registered: make(chan *api.RegisterRequest, 16)}
	api.RegisterRegistrationServer(k.server, k)
	go func() { _ = k.server.Serve(listener) }()
	t.Cleanup(k.stop)
	return k
}

func (k *kubelet) stop() { k.server.Stop() }

func (k *kubelet) Register(_ context.Context, request *api.RegisterRequest) (*api.Empty, error) {
	k.registered <- request
	return &api.Empty{}, nil
}

// plugged is a device plugin as the kubelet uses it after its registration.
type plugged struct {
	*kubelet
	request *api.RegisterRequest
	client  api.DevicePluginClient
	list    api.DevicePlugin_ListAndWatchClient
	ids     []string
}

// next waits for a registration, and calls back.
func (k *kubelet) next() *plugged {
	k.t.Helper()
	p := &plugged{kubelet: k}
	select {
	case p.request = <-k.registered:
	case <-time.After(10 * time.Second):
		k.t.Fatal("no registration")
	}
	connection, err := grpc.NewClient("unix:"+filepath.Join(k.folder, p.request.Endpoint), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = connection.Close() })
	p.client = api.NewDevicePluginClient(connection)
	// No test may wait for ever for what does not end.
	ctx, cancel := context.WithTimeout(k.t.Context(), time.Minute)
	k.t.Cleanup(cancel)
	if p.list, err = p.client.ListAndWatch(ctx, &api.Empty{}); err != nil {
		k.t.Fatal(err)
	}
	devices, err := p.list.Recv()
	if err != nil {
		k.t.Fatal(err)
	}
	for _, d := range devices.Devices {
		if d.Health != api.Healthy {
			k.t.Errorf("%v", d)
		}
		p.ids = append(p.ids, d.ID)
	}
	return p
}

// none fails if anything registers within a moment.
func (k *kubelet) none() {
	k.t.Helper()
	select {
	case request := <-k.registered:
		k.t.Errorf("registered: %v", request)
	case <-time.After(100 * time.Millisecond):
	}
}

// gone waits until the plugin ended its service.
func (p *plugged) gone() {
	p.t.Helper()
	if _, err := p.list.Recv(); err == nil || status.Code(err) == codes.DeadlineExceeded {
		p.t.Errorf("the service should have ended: %v", err)
	}
}
