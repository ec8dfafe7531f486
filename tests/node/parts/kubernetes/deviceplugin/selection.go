package deviceplugin

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

// What to take when neither the node's label nor a default names a configuration.
const (
	fallbackNamed  = "named"  // the one called "default"
	fallbackSingle = "single" // the only one
	fallbackEmpty  = "empty"  // none: no sharing (what the operator sets)
)

// selector chooses one file of a folder, as NVIDIA's config-manager does beside the plugin: it keeps a
// link to the file; here the path itself is kept.
type selector struct {
	folder    string
	fallback  string
	fallbacks []string
}

// choose gives the path of the configuration for a value of the node's label; empty: no sharing.
//
// Read in NVIDIA's source: the label wins over the default, the default over the fallbacks; a name that
// has no file is an error, never a fallback.
func (s *selector) choose(label string) (string, error) {
	names, err := s.available()
	if err != nil {
		return "", err
	}
	if len(names) == 0 {
		return "", fmt.Errorf("no configuration in %s", s.folder)
	}
	for _, wanted := range []struct{ from, name string }{{"the node's label", label}, {"--default-config", s.fallback}} {
		if wanted.name == "" {
			continue
		}
		for _, name := range names {
			if name == wanted.name {
				return filepath.Join(s.folder, name), nil
			}
		}
		return "", fmt.Errorf("%s names configuration %q, which is not in %s: there are %s",
			wanted.from, wanted.name, s.folder, strings.Join(names, ", "))
	}
	for _, fallback := range s.fallbacks {
		switch fallback {
		case fallbackEmpty:
			return "", nil
		case fallbackNamed:
			for _, name := range names {
				if name == "default" {
					return filepath.Join(s.folder, name), nil
				}
			}
		case fallbackSingle:
			if len(names) == 1 {
				return filepath.Join(s.folder, names[0]), nil
			}
		default:
			return "", fmt.Errorf("unknown --fallback-strategies %q: named, single, empty", fallback)
		}
	}
	return "", fmt.Errorf("no configuration is named by label or default, and no fallback (%s) applies", strings.Join(s.fallbacks, ", "))
}

// available names, without the folders and "..data" links by which a ConfigMap is mounted.
func (s *selector) available() ([]string, error) {
	entries, err := os.ReadDir(s.folder)
	if err != nil {
		return nil, fmt.Errorf("list the configurations: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if !entry.IsDir() && !strings.HasPrefix(entry.Name(), "..") {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// followLabel sends a label's value on a node (empty: it has none): first the present one, then each
// other one. NVIDIA's watches; this asks every `every`, which sees the same a little later, and drops a
// value that was replaced before anyone took it, as NVIDIA's does.
func followLabel(ctx context.Context, client kubernetes.Interface, node, label string, every time.Duration) <-chan string {
	values := make(chan string, 1)
	go func() {
		var known *string
		failing := false
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			object, err := client.CoreV1().Nodes().Get(ctx, node, v1.GetOptions{})
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				if !failing {
					klog.Errorf("label %s of node %s cannot be read, trying on: %v", label, node, err)
				}
				failing = true
			default:
				failing = false
				if value := object.Labels[label]; known == nil || *known != value {
					known = &value
					select {
					case <-values:
					default:
					}
					values <- value
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	return values
}
