// Checks what documentation shows for tools that follow a Git repository, with what these publish. The object is on
// standard input.
//
//	check-gitops flux           no field that the type of Flux lacks, no other type, no value that is not allowed
//	check-gitops health SCRIPT  prints the health that a script of Argo CD finds, in the interpreter of Argo CD
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	helm "github.com/fluxcd/helm-controller/api/v2"
	source "github.com/fluxcd/source-controller/api/v1"
	lua "github.com/yuin/gopher-lua"
	"sigs.k8s.io/yaml"
)

func checkFlux(content []byte) error {
	kind := struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}{}
	if err := yaml.Unmarshal(content, &kind); err != nil {
		return err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case source.GroupVersion.String() + " " + source.GitRepositoryKind:
		return yaml.UnmarshalStrict(content, &source.GitRepository{})
	case helm.GroupVersion.String() + " " + helm.HelmReleaseKind:
		release := helm.HelmRelease{}
		if err := yaml.UnmarshalStrict(content, &release); err != nil {
			return err
		}
		return checkPolicies(release.GetInstall().CRDs, release.GetUpgrade().CRDs)
	}
	return fmt.Errorf("%s %s is not a kind of Flux", kind.APIVersion, kind.Kind)
}

func checkPolicies(policies ...helm.CRDsPolicy) error {
	for _, policy := range policies {
		if !slices.Contains([]helm.CRDsPolicy{"", helm.Skip, helm.Create, helm.CreateReplace}, policy) {
			return fmt.Errorf("crds: %q is not allowed", policy)
		}
	}
	return nil
}

// The object is the global variable obj, and the script returns a table with status and message.
func findHealth(script string, content []byte) (string, error) {
	var object any
	if err := json.Unmarshal(content, &object); err != nil {
		return "", err
	}
	state := lua.NewState()
	defer state.Close()
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoFile(script); err != nil {
		return "", err
	}
	health, isTable := state.Get(-1).(*lua.LTable)
	if !isTable {
		return "", errors.New("the script returns no table")
	}
	return fmt.Sprintf("%s: %s", health.RawGetString("status"), health.RawGetString("message")), nil
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch given := value.(type) {
	case string:
		return lua.LString(given)
	case float64:
		return lua.LNumber(given)
	case bool:
		return lua.LBool(given)
	case []any:
		table := state.NewTable()
		for _, each := range given {
			table.Append(toLua(state, each))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, each := range given {
			table.RawSetString(key, toLua(state, each))
		}
		return table
	}
	return lua.LNil
}

func run() error {
	content, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	if len(os.Args) == 3 && os.Args[1] == "health" {
		health, err := findHealth(os.Args[2], content)
		if err == nil {
			fmt.Println(health)
		}
		return err
	}
	return checkFlux(content)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
