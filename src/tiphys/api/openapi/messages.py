"""The messages of the protobuf form of OpenAPI documents, as gnostic publishes them: field names and numbers.

A line is a message: its name, then ``NAME:NUMBER:TYPE`` for each field. A type is ``s`` (string), ``b`` (bool), ``i``
(int64), ``d`` (double), ``any`` (a value as YAML text), or a message; ``{TYPE}`` is a message of named values, and a
star after the number repeats the field. The name ``x-`` stands for every extension, ``/`` for all other names.
Only what our documents can hold is here. Source: https://github.com/google/gnostic-models (openapiv2, openapiv3).
"""

from __future__ import annotations

_NUMBERS = """ maximum:{0}:d exclusiveMaximum:{1}:b minimum:{2}:d exclusiveMinimum:{3}:b maxLength:{4}:i minLength:{5}:i
 pattern:{6}:s maxItems:{7}:i minItems:{8}:i uniqueItems:{9}:b""".replace("\n", "")


def _numbers(first: int) -> str:
    return _NUMBERS.format(*range(first, first + 10))


_PLAIN = f"{_numbers(11)} enum:21*:any multipleOf:22:d x-:23*:named"
"""How the parameters of queries and forms end."""
_PLACED = f"{_numbers(10)} enum:20*:any multipleOf:21:d x-:22*:named"
"""How the parameters of paths and headers end."""

SWAGGER = f"""
Document swagger:1:s info:2:Info host:3:s basePath:4:s schemes:5*:s consumes:6*:s produces:7*:s paths:8:Paths\
 definitions:9:{{Schema}} parameters:10:{{Parameter}} responses:11:{{Response}} security:12*:{{StringArray}}\
 securityDefinitions:13:{{SecurityDefinitionsItem}} externalDocs:15:ExternalDocs x-:16*:named
Info title:1:s version:2:s description:3:s termsOfService:4:s x-:7*:named
ExternalDocs description:1:s url:2:s x-:3*:named
Paths x-:1*:named /:2*:PathItem
PathItem $ref:1:s get:2:Operation put:3:Operation post:4:Operation delete:5:Operation options:6:Operation\
 head:7:Operation patch:8:Operation parameters:9*:ParametersItem x-:10*:named
Operation tags:1*:s summary:2:s description:3:s externalDocs:4:ExternalDocs operationId:5:s produces:6*:s consumes:7*:s\
 parameters:8*:ParametersItem responses:9:Responses schemes:10*:s deprecated:11:b security:12*:{{StringArray}}\
 x-:13*:named
Responses /:1*:ResponseValue x-:2*:named
Response description:1:s schema:2:SchemaItem x-:5*:named
JsonReference $ref:1:s description:2:s
BodyParameter description:1:s name:2:s in:3:s required:4:b schema:5:Schema x-:6*:named
QueryParameterSubSchema required:1:b in:2:s description:3:s name:4:s allowEmptyValue:5:b type:6:s format:7:s\
 items:8:PrimitivesItems collectionFormat:9:s default:10:any{_PLAIN}
FormDataParameterSubSchema required:1:b in:2:s description:3:s name:4:s allowEmptyValue:5:b type:6:s format:7:s\
 items:8:PrimitivesItems collectionFormat:9:s default:10:any{_PLAIN}
PathParameterSubSchema required:1:b in:2:s description:3:s name:4:s type:5:s format:6:s items:7:PrimitivesItems\
 collectionFormat:8:s default:9:any{_PLACED}
HeaderParameterSubSchema required:1:b in:2:s description:3:s name:4:s type:5:s format:6:s items:7:PrimitivesItems\
 collectionFormat:8:s default:9:any{_PLACED}
PrimitivesItems type:1:s format:2:s items:3:PrimitivesItems collectionFormat:4:s default:5:any{_numbers(6)}\
 enum:16*:any multipleOf:17:d x-:18*:named
Schema $ref:1:s format:2:s title:3:s description:4:s default:5:any multipleOf:6:d{_numbers(7)} maxProperties:17:i\
 minProperties:18:i required:19*:s enum:20*:any additionalProperties:21:AdditionalPropertiesItem type:22:TypeItem\
 items:23:ItemsItem allOf:24*:Schema properties:25:{{Schema}} discriminator:26:s readOnly:27:b\
 externalDocs:29:ExternalDocs example:30:any x-:31*:named
ApiKeySecurity type:1:s name:2:s in:3:s description:4:s x-:5*:named
"""

OPENAPI = f"""
Document openapi:1:s info:2:Info paths:4:Paths components:5:Components security:6*:{{StringArray}}\
 externalDocs:8:ExternalDocs x-:9*:named
Info title:1:s description:2:s termsOfService:3:s version:6:s x-:7*:named summary:8:s
ExternalDocs description:1:s url:2:s x-:3*:named
Components schemas:1:{{SchemaOrReference}} parameters:3:{{ParameterOrReference}}\
 securitySchemes:7:{{SecuritySchemeOrReference}} x-:10*:named
Paths /:1*:PathItem x-:2*:named
PathItem $ref:1:s summary:2:s description:3:s get:4:Operation put:5:Operation post:6:Operation delete:7:Operation\
 options:8:Operation head:9:Operation patch:10:Operation trace:11:Operation parameters:13*:ParameterOrReference\
 x-:14*:named
Operation tags:1*:s summary:2:s description:3:s externalDocs:4:ExternalDocs operationId:5:s\
 parameters:6*:ParameterOrReference requestBody:7:RequestBodyOrReference responses:8:Responses deprecated:10:b\
 security:11*:{{StringArray}} x-:13*:named
Parameter name:1:s in:2:s description:3:s required:4:b deprecated:5:b allowEmptyValue:6:b style:7:s explode:8:b\
 allowReserved:9:b schema:10:SchemaOrReference example:11:any content:13:{{MediaType}} x-:14*:named
RequestBody description:1:s content:2:{{MediaType}} required:3:b x-:4*:named
MediaType schema:1:SchemaOrReference example:2:any x-:5*:named
Responses default:1:ResponseOrReference /:2*:ResponseOrReference x-:3*:named
Response description:1:s content:3:{{MediaType}} x-:5*:named
Reference $ref:1:s summary:2:s description:3:s
Schema nullable:1:b readOnly:3:b writeOnly:4:b externalDocs:6:ExternalDocs example:7:any deprecated:8:b title:9:s\
 multipleOf:10:d{_numbers(11)} maxProperties:21:i minProperties:22:i required:23*:s enum:24*:any type:25:s\
 allOf:26*:SchemaOrReference oneOf:27*:SchemaOrReference anyOf:28*:SchemaOrReference not:29:Schema items:30:ItemsItem\
 properties:31:{{SchemaOrReference}} additionalProperties:32:AdditionalPropertiesItem default:33:DefaultType\
 description:34:s format:35:s x-:36*:named
SecurityScheme type:1:s description:2:s name:3:s in:4:s scheme:5:s bearerFormat:6:s x-:9*:named
"""
