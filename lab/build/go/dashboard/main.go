// Reads a dashboard from standard input and checks it against the schema that Grafana publishes: no unknown field, no
// other type, no value that is not allowed.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func check() error {
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	content, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	found := dashboard.Dashboard{}
	err = found.UnmarshalJSONStrict(content)
	// It returns an empty list of errors, which is not nil.
	var problems cog.BuildErrors
	if err != nil && !(errors.As(err, &problems) && len(problems) == 0) {
		return err
	}
	return found.Validate()
}

func main() {
	if err := check(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
