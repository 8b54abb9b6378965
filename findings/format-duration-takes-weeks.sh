#!/usr/bin/env bash
# Guess: `format: duration` in a CRD takes what the controllers' languages take: 90s, 1h30m. Perhaps ISO 8601.
# What happens: the API server's parser looks for numbers with units anywhere in the text. It takes days and weeks, blanks, ISO 8601, and words around
#   it that mean nothing, and CEL rules compare the value that it found. Go's time.ParseDuration, which most controllers call, refuses all that.
# Versions: k8s.io/apiextensions-apiserver v0.36.3, the code that kube-apiserver 1.36.3 validates custom resources with (also seen there).
# Why it matters: `lag: 3 weeks` or `soon 5s` passes the schema and the rules of a migration's resource, and becomes an error, or no limit,
#   in the controller. A pattern says what is meant.
#
# Seen:
#> "90s": format: duration takes it; self <= duration('1h') holds; time.ParseDuration takes it
#> "1d": format: duration takes it; self <= duration('1h') fails; time.ParseDuration refuses it
#> "3 weeks": format: duration takes it; self <= duration('1h') fails; time.ParseDuration refuses it
#> "P1D": format: duration takes it; self <= duration('1h') fails; time.ParseDuration refuses it
#> "45m 30m": format: duration takes it; self <= duration('1h') fails; time.ParseDuration refuses it
#> "soon 5s": format: duration takes it; self <= duration('1h') holds; time.ParseDuration refuses it
#> "5": format: duration refuses it; self <= duration('1h') is not looked at; time.ParseDuration refuses it
. "$(dirname "$0")/lib.sh"

go_program k8s.io/apiextensions-apiserver@v0.36.3 <<'GO'
package main

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

func main() {
	limited := &apiextensions.JSONSchemaProps{Type: "string", Format: "duration",
		XValidations: apiextensions.ValidationRules{{Rule: "self <= duration('1h')", Message: "at most an hour"}}}
	validator, _, err := validation.NewSchemaValidator(&apiextensions.JSONSchemaProps{Type: "string", Format: "duration"})
	if err != nil {
		panic(err)
	}
	structural, err := schema.NewStructural(limited)
	if err != nil {
		panic(err)
	}
	rules := cel.NewValidator(structural, false, celconfig.PerCallLimit)
	for _, text := range []string{"90s", "1d", "3 weeks", "P1D", "45m 30m", "soon 5s", "5"} {
		format, rule, golang := "takes it", "holds", "takes it"
		if errs := validation.ValidateCustomResource(field.NewPath("t"), text, validator); len(errs) > 0 {
			format, rule = "refuses it", "is not looked at"
		} else if errs, _ := rules.Validate(context.Background(), field.NewPath("t"), structural, text, nil, celconfig.RuntimeCELCostBudget); len(errs) > 0 {
			rule = "fails"
		}
		if _, err := time.ParseDuration(text); err != nil {
			golang = "refuses it"
		}
		fmt.Printf("%q: format: duration %s; self <= duration('1h') %s; time.ParseDuration %s\n", text, format, rule, golang)
	}
}
GO
while IFS= read -r line; do see "${line%%: *}" "${line#*: }"; done < <("$WORK/go/program")
verdict
