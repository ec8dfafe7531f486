package deviceplugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// configs makes a folder of configurations as a mounted ConfigMap is one: links into ..data.
func configs(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "..data"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(t, filepath.Join(folder, "..data", name), text)
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// write puts a whole file in place at once, as a ConfigMap's are.
func write(t *testing.T, path, text string) {
	t.Helper()
	whole := filepath.Join(t.TempDir(), "whole")
	if err := os.WriteFile(whole, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(whole, path); err != nil {
		t.Fatal(err)
	}
}

func TestWhichConfigurationIsChosen(t *testing.T) {
	both := configs(t, map[string]string{"any": "", "t4": ""})
	withDefault := configs(t, map[string]string{"default": "", "t4": ""})
	one := configs(t, map[string]string{"t4": ""})
	for name, test := range map[string]struct {
		selector selector
		label    string
		want     string
	}{
		"label over default":         {selector{both, "any", nil}, "t4", "t4"},
		"default without label":      {selector{both, "any", nil}, "", "any"},
		"neither, as the operator":   {selector{both, "", []string{fallbackEmpty}}, "", "none"},
		"label of no file":           {selector{both, "any", []string{fallbackEmpty}}, "a100", `error: the node's label names configuration "a100"`},
		"label of the hidden folder": {selector{both, "any", nil}, "..data", "error: the node's label names"},
		"default of no file":         {selector{both, "all", []string{fallbackEmpty}}, "", `error: --default-config names configuration "all"`},
		"named":                      {selector{withDefault, "", []string{fallbackNamed, fallbackSingle}}, "", "default"},
		"single":                     {selector{one, "", []string{fallbackNamed, fallbackSingle}}, "", "t4"},
		"no fallback applies":        {selector{both, "", []string{fallbackNamed, fallbackSingle}}, "", "error: no configuration is named"},
		"unknown fallback":           {selector{both, "", []string{"best"}}, "", `error: unknown --fallback-strategies "best"`},
		"empty folder":               {selector{configs(t, nil), "", []string{fallbackEmpty}}, "", "error: no configuration in"},
		"no folder":                  {selector{filepath.Join(both, "x"), "any", nil}, "", "error: list the configurations"},
	} {
		t.Run(name, func(t *testing.T) {
			path, err := test.selector.choose(test.label)
			got := filepath.Base(path)
			switch {
			case err != nil:
				got = "error: " + err.Error()
			case path == "":
				got = "none"
			}
			if !strings.HasPrefix(got, test.want) || err == nil && got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestTheLabelIsFollowed(t *testing.T) {
	const key = "nvidia.com/device-plugin.config"
	nodeAPI := serveNode(t, nil)
	values := followLabel(t.Context(), nodeAPI.client, "n", key, time.Millisecond)
	next := func(want string) {
		t.Helper()
		select {
		case got := <-values:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %q", want)
		}
	}
	next("")
	nodeAPI.set(key, "t4")
	next("t4")
	nodeAPI.fail(true)
	time.Sleep(20 * time.Millisecond)
	nodeAPI.set(key, "any")
	nodeAPI.fail(false)
	next("any")
	nodeAPI.set(key, "")
	next("")
	select {
	case again := <-values:
		t.Errorf("%q though nothing changed", again)
	case <-time.After(50 * time.Millisecond):
	}
}
