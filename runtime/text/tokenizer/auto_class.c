#include "runtime/text/tokenizer/auto_class.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static const char *const class_names[] = {
    [PR_AUTO_BACKEND] = "TokenizersBackend",
    [PR_AUTO_BERT] = "BertTokenizer",
    [PR_AUTO_DISTILBERT] = "DistilBertTokenizer",
    [PR_AUTO_ROBERTA] = "RobertaTokenizer",
    [PR_AUTO_XLM_ROBERTA] = "XLMRobertaTokenizer",
    [PR_AUTO_QWEN2] = "Qwen2Tokenizer",
    [PR_AUTO_LLAMA] = "LlamaTokenizer",
};
static_assert(sizeof class_names / sizeof *class_names == PR_AUTO_CLASS_COUNT, "one per class");

typedef struct alias_row {
    const char *name;
    pr_auto_class is;
} alias_row;

/* Other names of the same classes. */
static const alias_row aliases[] = {
    {"LxmertTokenizer", PR_AUTO_BERT},        {"MobileBertTokenizer", PR_AUTO_BERT},
    {"SqueezeBertTokenizer", PR_AUTO_BERT},   {"BartTokenizer", PR_AUTO_ROBERTA},
    {"LEDTokenizer", PR_AUTO_ROBERTA},        {"MvpTokenizer", PR_AUTO_ROBERTA},
    {"PreTrainedTokenizer", PR_AUTO_BACKEND}, {"PythonBackend", PR_AUTO_BACKEND},
};

/* Classes of transformers 5.16.1 that build something else; a name that is neither here nor above
 * has no class there, and the file is taken as it is. */
static const char *const not_built[] = {
    "AlbertTokenizer",
    "BarthezTokenizer",
    "BartphoTokenizer",
    "BertGenerationTokenizer",
    "BertJapaneseTokenizer",
    "BertweetTokenizer",
    "BigBirdTokenizer",
    "BioGptTokenizer",
    "BlenderbotSmallTokenizer",
    "BlenderbotTokenizer",
    "ByT5Tokenizer",
    "CLIPTokenizer",
    "CTRLTokenizer",
    "CamembertTokenizer",
    "CanineTokenizer",
    "CharacterTokenizer",
    "ClvpTokenizer",
    "CodeGenTokenizer",
    "CodeLlamaTokenizer",
    "CohereTokenizer",
    "ConvBertTokenizer",
    "CpmAntTokenizer",
    "CpmTokenizer",
    "DPRContextEncoderTokenizer",
    "DPRQuestionEncoderTokenizer",
    "DPRReaderTokenizer",
    "DebertaTokenizer",
    "DebertaV2Tokenizer",
    "DiaTokenizer",
    "EsmTokenizer",
    "EsmcTokenizer",
    "FNetTokenizer",
    "FSMTTokenizer",
    "FastSpeech2ConformerTokenizer",
    "FlaubertTokenizer",
    "FunnelTokenizer",
    "GPT2Tokenizer",
    "GPTNeoXJapaneseTokenizer",
    "GPTNeoXTokenizer",
    "GPTSw3Tokenizer",
    "GemmaTokenizer",
    "HerbertTokenizer",
    "LasrTokenizer",
    "LayoutLMv2Tokenizer",
    "LayoutLMv3Tokenizer",
    "LayoutXLMTokenizer",
    "LukeTokenizer",
    "M2M100Tokenizer",
    "MBart50Tokenizer",
    "MBartTokenizer",
    "MLukeTokenizer",
    "MPNetTokenizer",
    "MarianTokenizer",
    "MarkupLMTokenizer",
    "MecabTokenizer",
    "MgpstrTokenizer",
    "MyT5Tokenizer",
    "NllbTokenizer",
    "NougatTokenizer",
    "OpenAIGPTTokenizer",
    "PLBartTokenizer",
    "ParakeetTokenizer",
    "PegasusTokenizer",
    "PerceiverTokenizer",
    "PhobertTokenizer",
    "Pop2PianoTokenizer",
    "ProphetNetTokenizer",
    "Qwen3_5Tokenizer",
    "RagTokenizer",
    "ReformerTokenizer",
    "RemBertTokenizer",
    "RoCBertTokenizer",
    "RoFormerTokenizer",
    "SeamlessM4TTokenizer",
    "Siglip2Tokenizer",
    "SiglipTokenizer",
    "Speech2TextTokenizer",
    "SpeechT5Tokenizer",
    "SplinterTokenizer",
    "T5Tokenizer",
    "TapasTokenizer",
    "Tipsv2Tokenizer",
    "UdopTokenizer",
    "VideoPrismTokenizer",
    "VitsTokenizer",
    "Wav2Vec2CTCTokenizer",
    "Wav2Vec2PhonemeCTCTokenizer",
    "WhisperTokenizer",
    "XGLMTokenizer",
    "XLMTokenizer",
    "XLNetTokenizer",
};

typedef struct model_row {
    const char *model_type;
    pr_auto_class is;
    bool always; /* whatever class the files name */
} model_row;

/* Of the families that we have; llama has no row in transformers either. */
static const model_row models[] = {
    {"bert", PR_AUTO_BERT, false},   {"roberta", PR_AUTO_ROBERTA, false},
    {"qwen2", PR_AUTO_QWEN2, true},  {"xlm-roberta", PR_AUTO_XLM_ROBERTA, false},
    {"qwen3", PR_AUTO_QWEN2, false}, {"mistral", PR_AUTO_BACKEND, true},
};

const char *pr_auto_class_name(pr_auto_class c)
{
    assert(c < PR_AUTO_CLASS_COUNT);
    return class_names[c];
}

/* Whether name, without "Fast" at its end, is expected. */
static bool is_name(const char *name, const char *expected)
{
    size_t n = strlen(expected);
    return strncmp(name, expected, n) == 0 && (!name[n] || strcmp(name + n, "Fast") == 0);
}

static pr_status find_name(const char *name, pr_auto_class *out, pr_error *err)
{
    *out = PR_AUTO_BACKEND;
    for (int i = 0; i < PR_AUTO_CLASS_COUNT; i++) {
        if (is_name(name, class_names[i])) {
            *out = (pr_auto_class)i;
            return PR_OK;
        }
    }
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
        if (is_name(name, aliases[i].name)) {
            *out = aliases[i].is;
            return PR_OK;
        }
    }
    for (size_t i = 0; i < sizeof not_built / sizeof *not_built; i++) {
        if (is_name(name, not_built[i])) {
            return pr_error_set(err, PR_E_UNSUPPORTED,
                                "tokenizer_class: found \"%.80s\", expected BertTokenizer, "
                                "RobertaTokenizer, XLMRobertaTokenizer, Qwen2Tokenizer, "
                                "LlamaTokenizer or PreTrainedTokenizerFast (others are not built)",
                                name);
        }
    }
    return PR_OK;
}

pr_status pr_auto_class_find(const char *model_type, const char *tokenizer_class, bool has_auto_map,
                             pr_auto_class *out, pr_error *err)
{
    const model_row *model = NULL;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (model_type && strcmp(model_type, models[i].model_type) == 0) model = &models[i];
    }
    *out = model ? model->is : PR_AUTO_BACKEND;
    /* Code of its own takes the way around the model's class, but not for qwen2. */
    bool trusts_model = model && model->always && (!has_auto_map || model->is == PR_AUTO_QWEN2);
    if (!tokenizer_class || trusts_model) return PR_OK;
    /* An old class with the name of its own: only a RoBERTa's files mean the new one. */
    if (strcmp(tokenizer_class, "RobertaTokenizerFast") == 0 && model &&
        model->is != PR_AUTO_ROBERTA) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "tokenizer_class: found \"RobertaTokenizerFast\" with model_type "
                            "\"%.40s\", expected RobertaTokenizer",
                            model_type);
    }
    return find_name(tokenizer_class, out, err);
}

bool pr_auto_class_is_llama_name(const char *tokenizer_class)
{
    return tokenizer_class && is_name(tokenizer_class, class_names[PR_AUTO_LLAMA]);
}
